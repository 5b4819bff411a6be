// What a kernel works on: a tensor seen as [outer, channels, inner], and a box of it.

#ifndef BATCHNORM_DETAIL_KERNELS_TILE_HPP
#define BATCHNORM_DETAIL_KERNELS_TILE_HPP

#include <algorithm>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A dense tensor as the library sees it, whatever its rank, layout and channel axis. `inner` is the product of the
/// dimensions that vary faster than the channel in memory, `outer` of those that vary slower: N,C,H,W in RowMajor has
/// inner = H * W, channels-last has inner = 1, N,C in ColMajor has outer = 1.
struct View {
  Index outer;
  Index channels;
  Index inner;

  Index size() const { return outer * channels * inner; }
  Index values_per_channel() const { return outer * inner; }

  /// Where element (o, c, i) lies, counted in elements from the first.
  Index offset(Index o, Index c, Index i) const { return (o * channels + c) * inner + i; }
  /// From an element to that of the next outer step.
  Index outer_stride() const { return channels * inner; }
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

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_TILE_HPP
