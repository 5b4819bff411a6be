// The third primitive: per channel, over a tile, what sum(dy) and sum(dy * (x - mean)) follow from.
//
// Products are of deviations: x from the mean, dy from a pivot of its own. About x's own mean x - mean adds up to 0, so
// that what all of dy have in common contributes nothing, exactly, and is not to be lost in roundings either. Floats
// are summed in float for a few additions at a time, as moments are; a channel which that cannot be trusted with, since
// products over- or underflowed or dy's pivot turned out to lie far from dy, is summed again in double. Where the sums
// are as wide as the data, the mean's own rounding error shows: sum(x - mean) is taken too, which tells how far it is
// off. (The means of 16-bit numbers, sums of two doubles, are exact enough.)

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP

#include <limits>

#include "batchnorm/detail/kernels/short_sums.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The third sum, beside those of g = dy - pivot and of g d, d = x - mean.
enum class ThirdSum {
  none,
  squares,  ///< of g squared, which tells whether the others can be trusted
  x,        ///< of d
};

template <ThirdSum Third>
struct GradientTerms {
  static constexpr int tensors = 2, sums = Third == ThirdSum::none ? 2 : 3, most_packs = 2;
  static constexpr Index column_rows = 8;

  template <class P>
  struct Pivots {
    P x, dy;
    template <class F>
    static BATCHNORM_ALWAYS_INLINE Pivots of(const F& f) {
      return {f(0), f(1)};
    }
  };
  template <class P>
  struct Centered {
    P d, g;
    template <class F>
    static BATCHNORM_ALWAYS_INLINE Centered of(const F& f, const Pivots<P>& pivots) {
      return {f(0) - pivots.x, f(1) - pivots.dy};
    }
    BATCHNORM_ALWAYS_INLINE void clear_first(Index n) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, n);
      g = blend(none, g, n);
    }
  };
  template <class P>
  struct Sums {
    P dy, products, third;
    static BATCHNORM_ALWAYS_INLINE Sums zero() {
      const P none = P::all(typename P::Scalar(0));
      return {none, none, none};
    }
    BATCHNORM_ALWAYS_INLINE void add(const Centered<P>& values) {
      dy = dy + values.g;
      products = mul_add(values.g, values.d, products);
      if constexpr (Third == ThirdSum::squares) third = mul_add(values.g, values.g, third);
      if constexpr (Third == ThirdSum::x) third = third + values.d;
    }
    friend BATCHNORM_ALWAYS_INLINE Sums operator+(const Sums& a, const Sums& b) {
      return {a.dy + b.dy, a.products + b.products, a.third + b.third};
    }
    template <class F>
    BATCHNORM_ALWAYS_INLINE void for_each(const F& f) const {
      f(0, dy);
      f(1, products);
      if constexpr (Third != ThirdSum::none) f(2, third);
    }
  };
};

/// S is the type of short sums, A's or a narrower one. A narrower one is for means that are x's own.
template <class S>
struct AccumulateGradients {
  /// Sets the sums of the tile's channels, about the means of all channels, as numbers of S, and whether these are x's
  /// own, which of 16-bit numbers is not asked. x and dy are the whole tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, const T* dy, const A* means,
                                           bool own_means, const Prefetches& prefetches,
                                           const GradientSumArrays<A>& result) {
    using P = KernelPack<T, S, Bytes>;
    constexpr bool narrow = !std::is_same_v<S, A>;
    constexpr ThirdSum third = narrow ? ThirdSum::squares : std::is_same_v<T, A> ? ThirdSum::x : ThirdSum::none;
    using Short = ShortSums<S, GradientTerms<third>>;
    if (narrow || (own_means && std::is_same_v<T, A>)) {
      Short::template set_pivots<P>(view, tile, dy, result.dy_pivot());
    } else {
      std::fill_n(result.dy_pivot(), tile.channels(), A(0));
    }
    const T* const tensors[] = {x, dy};
    const Prefetch prefetch[] = {prefetches.x, prefetches.dy};
    const A* const pivots[] = {means + tile.channel_begin, result.dy_pivot()};
    A* sums[Short::sums];
    for (int k = 0; k < Short::sums; ++k) sums[k] = result.arrays[1 + k];
    if (by_columns(view)) {
      Short::template by_columns<P>(Columns(view, tile), tensors, prefetch, pivots, sums);
    } else {
      Short::template by_rows<P>(view, tile, tensors, prefetch, pivots, sums);
    }
    if constexpr (narrow) {
      const A n = number<A>(tile.values_per_channel());
      bool all_trusted = true;
      for (Index c = 0; c < tile.channels(); ++c) all_trusted &= is_trusted(result, c, n);
      if (!all_trusted) sum_again(view, tile, x, dy, means, result);
    }
  }

 private:
  // Whether S has held a channel's sums with its digits.
  template <class A>
  static BATCHNORM_ALWAYS_INLINE bool is_trusted(const GradientSumArrays<A>& sums, Index c, const A& n) {
    constexpr A least = 0x1p-100, most = (std::numeric_limits<A>::max)();
    const A products = std::abs(sums.products()[c]);
    return is_sound<S>(sums.dy()[c], sums.third()[c], n) && products >= least * n && products <= most;
  }

  // In double, about the same pivots, of those channels that are not trusted. Compiled once, as what is rare.
  template <class T, class A>
  static BATCHNORM_COLD void sum_again(const View& view, const Tile& tile, const T* x, const T* dy, const A* means,
                                       const GradientSumArrays<A>& result) {
    using P = KernelPack<T, A, baseline_bytes>;
    using Long = ShortSums<A, GradientTerms<ThirdSum::none>>;
    const A n = number<A>(tile.values_per_channel());
    const T* const tensors[] = {x, dy};
    bool again[static_cast<std::size_t>(max_columns<A>)];
    A x_pivots[static_cast<std::size_t>(max_columns<A>)];
    for (Index c = 0; c < tile.channels(); ++c) {
      again[c] = !is_trusted(result, c, n);
      x_pivots[c] = static_cast<A>(static_cast<S>(means[tile.channel_begin + c]));
      if (!again[c] || by_columns(view)) continue;
      Tile one = tile;
      one.channel_begin += c;
      one.channel_end = one.channel_begin + 1;
      const Prefetch nothing[2] = {};
      const A* const pivots[] = {x_pivots + c, result.dy_pivot() + c};
      A* const sums[] = {result.dy() + c, result.products() + c};
      Long::template by_rows<P>(view, one, tensors, nothing, pivots, sums);
    }
    if (!by_columns(view)) return;
    const A* const pivots[] = {x_pivots, result.dy_pivot()};
    A* const sums[] = {result.dy(), result.products()};
    Long::template by_columns_again<P>(Columns(view, tile), tensors, again, pivots, sums);
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
