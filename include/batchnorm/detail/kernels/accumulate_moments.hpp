// The first primitive: per channel, the sums from which the mean and the sum of squared deviations follow.
//
// Sums are of deviations from a pivot, a value near the mean: that of a few of the channel's elements, so that no mean,
// however large, cancels digits. Floats are summed in float for a few additions at a time, and those
// sums in double: the rounding errors of so few additions are below those of the data. What that cannot be trusted with
// is summed again in double: a channel of which float overflowed, or underflowed, or whose mean turned out to lie far
// from the values it was taken for.

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP

#include <limits>

#include "batchnorm/detail/kernels/short_sums.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// d = x - pivot, and its sum and that of its squares.
struct MomentTerms {
  static constexpr std::size_t tensors = 1, sums = 2, pivots = 1;
  static constexpr int most_packs = 4;
  static constexpr Index additions = 16, column_rows = 16;
  static constexpr bool weighted = false;
  template <class A>
  static constexpr Index most_columns = max_columns<A>;

  template <class P>
  struct Pivots {
    P x;
    template <class F>
    static BATCHNORM_ALWAYS_INLINE Pivots of(const F& f) {
      return {f(0)};
    }
  };
  template <class P>
  struct Centered {
    P d;
    BATCHNORM_ALWAYS_INLINE void clear_first(Index n) { d = blend(P::all(typename P::Scalar(0)), d, n); }
  };
  template <class P, class F>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const F& f, const Pivots<P>& pivot) const {
    return {f(0) - pivot.x};
  }
  template <class P>
  struct Sums {
    P sum, squares;
    static BATCHNORM_ALWAYS_INLINE Sums zero() {
      const P none = P::all(typename P::Scalar(0));
      return {none, none};
    }
    BATCHNORM_ALWAYS_INLINE void add(const Centered<P>& values) {
      sum = sum + values.d;
      squares = mul_add(values.d, values.d, squares);
    }
    friend BATCHNORM_ALWAYS_INLINE Sums operator+(const Sums& a, const Sums& b) {
      return {a.sum + b.sum, a.squares + b.squares};
    }
    template <class F>
    BATCHNORM_ALWAYS_INLINE void for_each(const F& f) const {
      f(0, sum);
      f(1, squares);
    }
  };
};

/// S is the type of short sums, A's or a narrower one.
template <class S>
struct AccumulateMoments {
  /// Sets the sums of the tile's channels. x is the whole tensor.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const Elements<const T>& x,
                                           const Prefetch& prefetch, const MomentSums<A>& result) {
    using P = KernelPack<T, S, Bytes>;
    using Short = ShortSums<S, MomentTerms>;
    Short::template set_pivots<P>(view, tile, x, result.pivot());
    const Elements<const T> tensors[] = {x};
    const Prefetch prefetches[] = {prefetch};
    const A* const pivots[] = {result.pivot()};
    A* const sums[] = {result.sum(), result.squares()};
    if (by_columns(view)) {
      Short{{}}.template by_columns<P>(view, tile, tensors, prefetches, pivots, sums);
    } else {
      Short{{}}.template by_rows<P>(view, tile, tensors, prefetches, pivots, sums);
    }
    const A n = number<A>(tile.values_per_channel());
    bool all_sound = true;
    for (Index c = 0; c < tile.channels(); ++c) all_sound &= is_sound<S>(result.sum()[c], result.squares()[c], n);
    if (!all_sound) sum_again(view, tile, x, result);
  }

 private:
  // Of those channels that are not sound. What is rare is compiled once, not for each instruction set. The new pivot is
  // an A: of a constant channel exactly its value, however small.
  template <class T, class A>
  static BATCHNORM_COLD void sum_again(const View& view, const Tile& tile, const Elements<const T>& x,
                                       const MomentSums<A>& result) {
    using P = KernelPack<T, A, baseline_bytes>;
    using Long = ShortSums<A, MomentTerms>;
    const A n = number<A>(tile.values_per_channel());
    const Elements<const T> tensors[] = {x};
    bool again[static_cast<std::size_t>(max_columns<A>)];
    for (Index c = 0; c < tile.channels(); ++c) {
      const MomentSums<A> channel = from_channel(result, c);
      again[c] = !is_sound<S>(*channel.sum(), *channel.squares(), n);
      if (!again[c]) continue;
      Tile one = tile;
      one.channel_begin += c;
      one.channel_end = one.channel_begin + 1;
      if constexpr (std::is_same_v<S, A>) {
        *channel.pivot() = *channel.pivot() + *channel.sum() / n;
      } else {
        Long::template set_pivots<typename P::One>(view, one, x, channel.pivot());
      }
      if (by_columns(view)) continue;
      const Prefetch nothing[1] = {};
      const A* const pivots[] = {channel.pivot()};
      A* const sums[] = {channel.sum(), channel.squares()};
      Long{{}}.template by_rows<P>(view, one, tensors, nothing, pivots, sums);
    }
    if (!by_columns(view)) return;
    const A* const pivots[] = {result.pivot()};
    A* const sums[] = {result.sum(), result.squares()};
    Long{{}}.template by_columns_again<P>(view, tile, tensors, again, pivots, sums);
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
