// The third primitive: per channel, over a tile, what sum(dy) and sum(dy * (x - mean)) follow from.
//
// About the batch's own mean x - mean adds up to 0, so that what all of dy have in common contributes nothing; but it
// leaves errors, by as much as the mean is off, and by the rounding of larger products. So sum(x - mean) is taken too,
// which tells how far the mean is off, and where sums are no wider than the data, the products are of dy less a pivot.
// (Not of 16-bit numbers, whose means, sums of two doubles, are exact enough.)
//
// Floats are summed in double throughout. Short sums in float, as moments are taken, were tried: where dy's products
// cancel, which those of a gradient do, their errors are 1e-7 of the root of the sum of squares, and show.

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP

#include <algorithm>

#include "batchnorm/detail/kernels/short_sums.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Which sums are taken beside those of dy and of g d, g = dy - pivot and d = x - mean.
enum class OtherSums {
  none,
  x,  ///< of d
};

/// Pivoted says whether dy has pivots, of which sum(dy) itself takes no notice.
template <OtherSums Others, bool Pivoted>
struct GradientTerms {
  static constexpr std::size_t tensors = 2, sums = Others == OtherSums::none ? 2 : 3, pivots = 2;
  static constexpr int most_packs = 1;
  static constexpr Index additions = 16, column_rows = 8;
  static constexpr bool weighted = false;
  template <class A>
  static constexpr Index most_columns = max_columns<A>;

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
    P d, dy, g;
    static BATCHNORM_ALWAYS_INLINE Centered of(const P& d, const P& dy, const P& dy_pivot) {
      if constexpr (Pivoted) {
        return {d, dy, dy - dy_pivot};
      } else {
        return {d, dy, dy};
      }
    }
    BATCHNORM_ALWAYS_INLINE void clear_first(Index n) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, n);
      dy = blend(none, dy, n);
      g = blend(none, g, n);
    }
  };
  template <class P, class F>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const F& f, const Pivots<P>& pivot) const {
    return Centered<P>::of(f(0) - pivot.x, f(1), pivot.dy);
  }
  template <class P>
  struct Sums {
    P dy, products, x;
    static BATCHNORM_ALWAYS_INLINE Sums zero() {
      const P none = P::all(typename P::Scalar(0));
      return {none, none, none};
    }
    BATCHNORM_ALWAYS_INLINE void add(const Centered<P>& values) {
      dy = dy + values.dy;
      products = mul_add(values.g, values.d, products);
      if constexpr (sums > 2) x = x + values.d;
    }
    friend BATCHNORM_ALWAYS_INLINE Sums operator+(const Sums& a, const Sums& b) {
      return {a.dy + b.dy, a.products + b.products, a.x + b.x};
    }
    template <class F>
    BATCHNORM_ALWAYS_INLINE void for_each(const F& f) const {
      f(0, dy);
      f(1, products);
      if constexpr (sums > 2) f(2, x);
    }
  };
};

struct AccumulateGradients {
  /// Sets the sums of the tile's channels, about the means of all channels, and whether these are x's own, which of
  /// 16-bit numbers is not asked. x and dy are the whole tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const Elements<const T>& x,
                                           const Elements<const T>& dy, const A* means, bool own_means,
                                           const Prefetches& prefetches, const GradientSumArrays<A>& result) {
    using P = KernelPack<T, A, Bytes>;
    using Short = ShortSums<A, GradientTerms<is_16_bit<T> ? OtherSums::none : OtherSums::x, std::is_same_v<T, A>>>;
    std::fill_n(result.dy_pivot(), tile.channels(), A(0));
    if constexpr (std::is_same_v<T, A>) {
      if (own_means) Short::template set_pivots<P>(view, tile, dy, result.dy_pivot());
    }
    const Elements<const T> tensors[] = {x, dy};
    const Prefetch prefetch[] = {prefetches.x, prefetches.dy};
    const A* const pivots[] = {means + tile.channel_begin, result.dy_pivot()};
    A* sums[Short::sums];
    for (std::size_t k = 0; k < Short::sums; ++k) sums[k] = result.arrays[1 + k];
    if (by_columns(view)) {
      Short{{}}.template by_columns<P>(view, tile, tensors, prefetch, pivots, sums);
    } else {
      Short{{}}.template by_rows<P>(view, tile, tensors, prefetch, pivots, sums);
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
