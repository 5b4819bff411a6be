// The primitives' variants with a weight for each position: moments of weighted values, and gradients through them.
//
// The weights of a tensor [outer, channels, inner] are one more tensor, of [outer, inner], whose channel stride is 0.
// As the fused kernels they compute in the accumulator type throughout, and are compiled only where a call is handed
// weights, a mask, or parameters of its own, or where a layer has ghost batches, renormalization or mixed statistics.

#ifndef BATCHNORM_DETAIL_KERNELS_WEIGHTED_HPP
#define BATCHNORM_DETAIL_KERNELS_WEIGHTED_HPP

#include "batchnorm/detail/kernels/fused.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Where the pivots of weighted moments are taken from: up to four positions of weight above 0.
struct PivotPlaces {
  Index count = 0;
  Index outer[4] = {}, inner[4] = {};
};

/// Primitive 1's sums with weights w: of w d, of w d^2, d = x - pivot, and of w.
template <class A>
struct WeightedMomentSums : PerChannel<A, 4> {
  A* pivot() const { return this->arrays[0]; }
  A* sum() const { return this->arrays[1]; }
  A* squares() const { return this->arrays[2]; }
  A* weight() const { return this->arrays[3]; }
};

/// d = x - pivot, 0 where w is, whatever x is there.
struct WeightedMomentTerms {
  static constexpr std::size_t tensors = 2, sums = 3, pivots = 1;
  static constexpr int most_packs = 1;
  static constexpr Index additions = 16, column_rows = 8;
  static constexpr bool weighted = true;
  template <class A>
  static constexpr Index most_columns = half_max_columns<A>;

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
    P d, w;
    BATCHNORM_ALWAYS_INLINE void clear_first(Index n) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, n);
      w = blend(none, w, n);
    }
  };
  template <class P, class F>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const F& f, const Pivots<P>& pivot) const {
    const P none = P::all(typename P::Scalar(0)), w = f(1);
    return {where_above(w, none, P(f(0)) - pivot.x, none), w};
  }
  template <class P>
  struct Sums {
    P sum, squares, weight;
    static BATCHNORM_ALWAYS_INLINE Sums zero() {
      const P none = P::all(typename P::Scalar(0));
      return {none, none, none};
    }
    BATCHNORM_ALWAYS_INLINE void add(const Centered<P>& values) {
      const P product = values.w * values.d;
      sum = sum + product;
      squares = mul_add(product, values.d, squares);
      weight = weight + values.w;
    }
    friend BATCHNORM_ALWAYS_INLINE Sums operator+(const Sums& a, const Sums& b) {
      return {a.sum + b.sum, a.squares + b.squares, a.weight + b.weight};
    }
    template <class F>
    BATCHNORM_ALWAYS_INLINE void for_each(const F& f) const {
      f(0, sum);
      f(1, squares);
      f(2, weight);
    }
  };
};

struct AccumulateWeightedMoments {
  /// Sets the sums of the tile's channels over x and its weights, the whole tensors, about pivots that are means of x
  /// at the places given.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const Elements<const T> (&tensors)[2],
                                           const PivotPlaces& places, const Prefetch& prefetch,
                                           const WeightedMomentSums<A>& result) {
    using P = KernelPack<T, A, Bytes>;
    for (Index c = 0; c < tile.channels(); ++c) {
      A pivot(0);
      for (Index k = 0; k < places.count; ++k) {
        const T* const x = tensors[0].at(places.outer[k], tile.channel_begin + c, places.inner[k]);
        pivot = pivot + load<Pack<A, 1, P::fused>>(x).v[0] / number<A>(places.count);
      }
      result.pivot()[c] = pivot;
    }
    sum<P>(view, tile, tensors, prefetch, result);
    bool all_sound = true;
    for (Index c = 0; c < tile.channels(); ++c) {
      if (is_sound<A>(result.sum()[c], result.squares()[c], result.weight()[c])) continue;
      all_sound = false;
      result.pivot()[c] = result.pivot()[c] + result.sum()[c] / result.weight()[c];
    }
    if (!all_sound) sum<P>(view, tile, tensors, prefetch, result);
  }

 private:
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum(const View& view, const Tile& tile, const Elements<const T> (&tensors)[2],
                                          const Prefetch& prefetch, const WeightedMomentSums<A>& result) {
    const Prefetch prefetches[] = {prefetch, {}};
    const A* const pivots[] = {result.pivot()};
    A* const sums[] = {result.sum(), result.squares(), result.weight()};
    const ShortSums<A, WeightedMomentTerms> short_sums{{}};
    if (by_columns(view)) {
      short_sums.template by_columns<P>(view, tile, tensors, prefetches, pivots, sums);
    } else {
      short_sums.template by_rows<P>(view, tile, tensors, prefetches, pivots, sums);
    }
  }
};

/// What the kernels of weighted gradients are told besides coefficients and tensors.
template <class A>
struct WeightedSettings {
  FusedSettings<A> fused{};
  bool has_weights = false;  ///< the fourth tensor is the weights; else all are 1
  bool is_mask = false;      ///< weights are 0 or 1, and what has 0 takes no part: its gradient is 0 too
};

/// What dy and x - mean become at positions of weight 0: under a mask they are 0. Otherwise the position's y was that
/// of any other, and so are its terms in the sums; but those that are no finite numbers are 0, so that what was kept
/// out of the statistics spoils nothing.
template <class P>
BATCHNORM_ALWAYS_INLINE void apply_weight_zero(const P& w, bool is_mask, P& d, P& dy) {
  const P none = P::all(typename P::Scalar(0));
  if (is_mask) {
    d = where_above(w, none, d, none);
    dy = where_above(w, none, dy, none);
    return;
  }
  const P bad = where_above(w, none, none, (d - d) + (dy - dy));  // NaN where either is not finite, else 0
  d = where_above(bad, none, none, d);
  dy = where_above(bad, none, none, dy);
}

/// dy as the activation lets it through, and that times d = x - mean.
template <class Packs>
struct WeightedGradientTerms {
  static constexpr std::size_t tensors = 4, sums = 2, pivots = 3;
  static constexpr int most_packs = 1;
  static constexpr Index additions = 16, column_rows = 8;
  static constexpr bool weighted = true;
  template <class A>
  static constexpr Index most_columns = half_max_columns<A>;

  WeightedSettings<typename Packs::Scalar> settings;
  Gates<Packs> gradient;

  template <class P>
  struct Pivots {
    P x, forward_scale, forward_shift;
    template <class F>
    static BATCHNORM_ALWAYS_INLINE Pivots of(const F& f) {
      return {f(0), f(1), f(2)};
    }
  };
  template <class P>
  struct Centered {
    P d, dy;
    BATCHNORM_ALWAYS_INLINE void clear_first(Index n) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, n);
      dy = blend(none, dy, n);
    }
  };
  template <class P, class F>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const F& f, const Pivots<P>& pivot) const {
    P d = P(f(0)) - pivot.x, dy = f(1);
    if (settings.fused.has_output) {
      dy = gradient.apply(P(f(2)), dy);
    } else {
      dy = gradient.apply(mul_add(d, pivot.forward_scale, pivot.forward_shift), dy);
    }
    if (settings.has_weights) apply_weight_zero(P(f(3)), settings.is_mask, d, dy);
    return {d, dy};
  }
  template <class P>
  struct Sums {
    P dy, products;
    static BATCHNORM_ALWAYS_INLINE Sums zero() {
      const P none = P::all(typename P::Scalar(0));
      return {none, none};
    }
    BATCHNORM_ALWAYS_INLINE void add(const Centered<P>& values) {
      dy = dy + values.dy;
      products = mul_add(values.dy, values.d, products);
    }
    friend BATCHNORM_ALWAYS_INLINE Sums operator+(const Sums& a, const Sums& b) {
      return {a.dy + b.dy, a.products + b.products};
    }
    template <class F>
    BATCHNORM_ALWAYS_INLINE void for_each(const F& f) const {
      f(0, dy);
      f(1, products);
    }
  };
};

struct AccumulateWeightedGradients {
  /// Sets sum(dy) and the products of the tile's channels; the other arrays of the result are set to 0. `forward` are
  /// the forward's coefficients from the view's first channel on, whose means are those of x. The tensors are x, dy, y
  /// and the weights; those that are not there are x.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const Elements<const T> (&tensors)[4],
                                           const NormalizeArrays<A>& forward, const WeightedSettings<A>& settings,
                                           const Prefetches& prefetches, const GradientSumArrays<A>& result) {
    using P = KernelPack<T, A, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    using Terms = WeightedGradientTerms<P>;
    const Index channels = tile.channels();
    std::fill_n(result.dy_pivot(), channels, A(0));
    std::fill_n(result.x(), channels, A(0));
    A memory[2][static_cast<std::size_t>(half_max_columns<A>)];
    const NormalizeArrays<A> of_tile = from_channel(forward, tile.channel_begin);
    for_each_pack<V>(channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      const auto k = normalization_of<A, typename decltype(type)::Pack>(of_tile, c);
      store(memory[0] + c, k.scale);
      store(memory[1] + c, k.shift);
    });
    const Prefetch prefetch[] = {prefetches.x, prefetches.dy, {}, {}};
    const A* const pivots[] = {of_tile.mean(), memory[0], memory[1]};
    A* const sums[] = {result.dy(), result.products()};
    const ShortSums<A, Terms> sum{Terms{settings, gradient_gates<P, T>(settings.fused)}};
    if (by_columns(view)) {
      sum.template by_columns<P>(view, tile, tensors, prefetch, pivots, sums);
    } else {
      sum.template by_rows<P>(view, tile, tensors, prefetch, pivots, sums);
    }
  }
};

/// The coefficients of a gradient through weighted statistics: dx = dy * scale - w * (offset + (x - mean) * slope).
template <class A>
struct WeightedGradientArrays : PerChannel<A, 4> {
  A* mean() const { return this->arrays[0]; }
  A* scale() const { return this->arrays[1]; }
  A* offset() const { return this->arrays[2]; }
  A* slope() const { return this->arrays[3]; }
};

/// The same for some elements of dx, and the forward's, whose mean is that of x.
template <class P>
struct WeightedGradientFormula {
  static constexpr int count = 6;
  using Packed = P;
  P mean, scale, offset, slope, forward_scale, forward_shift;

  friend BATCHNORM_ALWAYS_INLINE WeightedGradientFormula blend(const WeightedGradientFormula& a,
                                                               const WeightedGradientFormula& b, Index n) {
    return {blend(a.mean, b.mean, n),
            blend(a.scale, b.scale, n),
            blend(a.offset, b.offset, n),
            blend(a.slope, b.slope, n),
            blend(a.forward_scale, b.forward_scale, n),
            blend(a.forward_shift, b.forward_shift, n)};
  }
};

struct ApplyWeightedGradients {
  /// Writes dx and, unless it is null, the gradient of the residual. The tensors are read as those of the sums.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile,
                                           const WeightedGradientArrays<A>& coefficients,
                                           const NormalizeArrays<A>& forward, const Operands<T, 4, 2>& tensors,
                                           const WeightedSettings<A>& settings, const Access& access) {
    using P = KernelPack<T, A, Bytes>;
    using One = typename P::One;
    const bool has_output = settings.fused.has_output, constant = settings.fused.constant;
    const bool has_weights = settings.has_weights, is_mask = settings.is_mask;
    const Gates<P> gradient = gradient_gates<P, T>(settings.fused);
    elementwise<WeightedGradientFormula, P, half_max_columns<A>>(
        view, tile, tensors, access.streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          for (Index c = 0; c < tile.channels(); ++c) {
            const auto f = normalization_of<A, One>(forward, c);
            set(c, load<One>(coefficients.mean() + c), load<One>(coefficients.scale() + c),
                load<One>(coefficients.offset() + c), load<One>(coefficients.slope() + c), f.scale, f.shift);
          }
          return true;
        },
        [&](const auto& in, Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
          using Q = typename plain<decltype(k)>::Packed;
          const Q none = Q::all(A(0)), d = load<Q>(in[0] + i) - k.mean;
          Q dy = load<Q>(in[1] + i);
          if (has_output) {
            dy = gradient.apply(load<Q>(in[2] + i), dy);
          } else {
            dy = gradient.apply(mul_add(d, k.forward_scale, k.forward_shift), dy);
          }
          const Q w = has_weights ? load<Q>(in[3] + i) : Q::all(A(1));
          if (is_mask) dy = where_above(w, none, dy, none);
          Q dx = dy * k.scale;
          if (!constant) dx = dx - where_above(w, none, w * mul_add(d, k.slope, k.offset), none);
          return Results<Q, 2>{{dx, dy}};
        });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_WEIGHTED_HPP
