// What a kernel works on: a tensor seen as [outer, channels, inner], and a box of it.

#ifndef BATCHNORM_DETAIL_KERNELS_TILE_HPP
#define BATCHNORM_DETAIL_KERNELS_TILE_HPP

#include <algorithm>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The shape of a tensor as the library sees it, whatever its rank, layout and channel axis. `inner` is the product of
/// the dimensions that vary faster than the channel in memory, `outer` of those that vary slower: N,C,H,W in RowMajor
/// has inner = H * W, channels-last has inner = 1, N,C in ColMajor has outer = 1.
struct View {
  Index outer;
  Index channels;
  Index inner;

  Index size() const { return outer * channels * inner; }
  Index values_per_channel() const { return outer * inner; }
  /// How many elements an outer step has.
  Index step_width() const { return channels * inner; }
};

/// Where the elements of a tensor lie: those of a channel's row, along inner, one after another; rows of neighbouring
/// channels, and outer steps, as far apart as the strides say. The columns of a matrix have such strides, and its
/// blocks.
template <class T>
struct Elements {
  T* data;
  Index outer_stride, channel_stride;

  T* at(Index o, Index c, Index i) const { return data + o * outer_stride + c * channel_stride + i; }
  operator Elements<const T>() const {  // NOLINT(google-explicit-constructor): as T* converts to const T*
    return {data, outer_stride, channel_stride};
  }

  /// Whether the rows of an outer step lie one after another.
  bool has_whole_steps(const View& view) const { return channel_stride == view.inner; }
  /// Whether all elements lie one after another, as a tensor's do.
  bool is_dense(const View& view) const { return has_whole_steps(view) && outer_stride == view.step_width(); }

  /// Those of a tensor, which has no gaps.
  static Elements dense(T* data, const View& view) { return {data, view.step_width(), view.inner}; }
  /// Of strides that lead nowhere, where there is one outer step or one channel, those of a tensor are made.
  static Elements strided(T* data, const View& view, Index outer_stride, Index channel_stride) {
    const Index channel = view.channels == 1 ? view.inner : channel_stride;
    return {data, view.outer == 1 ? view.channels * channel : outer_stride, channel};
  }
};

/// Copies the elements of a view to memory where they lie one after another.
template <class T>
void gather_elements(const Elements<const T>& from, const View& view, T* to) {
  for (Index o = 0; o < view.outer; ++o) {
    if (from.channel_stride == 0 && view.inner == 1) {  // one weight for all channels
      to = std::fill_n(to, view.channels, *from.at(o, 0, 0));
      continue;
    }
    if (from.has_whole_steps(view)) {
      to = std::copy_n(from.at(o, 0, 0), view.step_width(), to);
      continue;
    }
    for (Index c = 0; c < view.channels; ++c) to = std::copy_n(from.at(o, c, 0), view.inner, to);
  }
}

/// Copies the elements of a view from one tensor to another.
template <class T>
void copy_elements(const Elements<const T>& from, const View& view, const Elements<T>& to) {
  for (Index o = 0; o < view.outer; ++o) {
    for (Index c = 0; c < view.channels; ++c) std::copy_n(from.at(o, c, 0), view.inner, to.at(o, c, 0));
  }
}

/// Copies them back.
template <class T>
void scatter_elements(const T* from, const View& view, const Elements<T>& to) {
  for (Index o = 0; o < view.outer; ++o) {
    for (Index c = 0; c < view.channels; ++c, from += view.inner) std::copy_n(from, view.inner, to.at(o, c, 0));
  }
}

/// The tensors of a pass that writes, element by element: N are read, and M are written, of which all but the first may
/// be null.
template <class T, std::size_t N, std::size_t M = 1>
struct Operands {
  Elements<const T> in[N];
  Elements<T> out[M];

  /// Whether `holds` of each.
  template <class Condition>
  bool all_of(const Condition& holds) const {
    bool result = true;
    for (const auto& elements : in) result = result && holds(elements);
    for (const auto& elements : out)
      result = result && (elements.data == nullptr || holds(Elements<const T>(elements)));
    return result;
  }
};

/// A box of a view: the half-open ranges of its three axes.
struct Tile {
  Index outer_begin, outer_end;
  Index channel_begin, channel_end;
  Index inner_begin, inner_end;

  Index channels() const { return channel_end - channel_begin; }
  Index values_per_channel() const { return (outer_end - outer_begin) * (inner_end - inner_begin); }
};

/// A kernel walks a tile in one of two ways.
///
/// By rows: one channel after another, along `inner`, where that is long enough to fill vectors. By columns: along
/// neighbouring channels, where inner is 1 or short, with one set of coefficients or sums for each column, an element
/// (c, i) of an outer step.
inline constexpr Index least_row = 16;
inline bool by_columns(const View& view) { return view.inner < least_row; }

/// An outer step narrower than this is not cut into blocks, and walked by columns together with its neighbours.
inline constexpr Index narrow_stride = 64;

/// The most channels in a tile, and the most columns of one that is walked by columns. What a kernel keeps of them, in
/// arrays on its stack, stays in the first-level cache, and a call with all its arrays below 64 KiB: a thread may have
/// 128.
template <class A>
inline constexpr Index max_columns = std::clamp<Index>(8192 / static_cast<Index>(sizeof(A)), narrow_stride, 1024);

/// The same for tiles that need room on the stack besides.
template <class A>
inline constexpr Index half_max_columns = (std::max)(narrow_stride, max_columns<A> / 2);

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_TILE_HPP
