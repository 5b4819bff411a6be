// The extended variants of the kernels: with an activation and a residual in the same pass, and a gradient for each.
//
// They compute in the accumulator type throughout, so that no range of the coefficients asks for a path of its own, and
// what backward computes again of the forward has its bits. They are compiled where a layer has an activation or a call
// has a residual, and nowhere else.

#ifndef BATCHNORM_DETAIL_KERNELS_FUSED_HPP
#define BATCHNORM_DETAIL_KERNELS_FUSED_HPP

#include <limits>

#include "batchnorm/detail/kernels/accumulate_gradients.hpp"
#include "batchnorm/detail/kernels/apply_gradients.hpp"
#include "batchnorm/detail/kernels/normalize.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// What a fused kernel is told besides coefficients and tensors.
template <class A>
struct FusedSettings {
  A slope{};                  ///< of the activation, below 0
  A inverse_slope{};          ///< 1 / slope, where x is recovered from y
  bool has_residual = false;  ///< forward: the second tensor is added
  bool has_output = false;    ///< backward: the third tensor is the forward's y; else its sign is computed from x
  bool from_output = false;   ///< backward: the first tensor is y too, and x is recovered from it
  bool constant = false;      ///< backward: the statistics are constants
};

/// The largest number above 0 that, stored as a T, becomes 0: half of the least T above it, which is rounded to even,
/// and for the 16-bit types what a float takes for that.
template <class T, class A>
A largest_zero() {
  if constexpr (std::is_same_v<T, float> && std::is_same_v<A, double>) {
    return A(0x1p-150);
  } else if constexpr (std::is_same_v<T, Eigen::half>) {
    return A(0x1.000001p-25);
  } else if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    return A(0x1.0001p-134);
  } else {
    return A(0);
  }
}

/// a where test is above the limit, or NaN, else slope * a: an activation, where test is a itself, and its gradient.
template <class P>
struct Gate {
  P limit, slope;
  bool is_zero;  // the slope is 0, and what is not above the limit becomes 0, infinities and -0 too

  static BATCHNORM_ALWAYS_INLINE Gate of(const typename P::Scalar& limit, const typename P::Scalar& slope) {
    return {P::all(limit), P::all(slope), slope == typename P::Scalar(0)};
  }
  BATCHNORM_ALWAYS_INLINE P apply(const P& test, const P& a) const {
    if (is_zero) return where_above(test, limit, a, P::all(typename P::Scalar(0)));
    return where_above(test, limit, a, a * slope);
  }
};

/// A gate for packs of P and for single numbers, made before a loop: what is stored in the loop might be the settings,
/// for all that the compiler knows.
template <class P>
struct Gates {
  using One = typename P::One;
  Gate<P> packs;
  Gate<One> ones;

  BATCHNORM_ALWAYS_INLINE Gates(const typename P::Scalar& limit, const typename P::Scalar& slope)
      : packs(Gate<P>::of(limit, slope)), ones(Gate<One>::of(limit, slope)) {}

  template <class Q>
  BATCHNORM_ALWAYS_INLINE Q apply(const Q& test, const Q& a) const {
    if constexpr (std::is_same_v<Q, P>) {
      return packs.apply(test, a);
    } else {
      return ones.apply(test, a);
    }
  }
};

/// By whether a forward's y was above 0, which is the stored y, or computed again from x as it was stored.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE Gates<P> gradient_gates(const FusedSettings<typename P::Scalar>& settings) {
  using A = typename P::Scalar;
  return {settings.has_output ? A(0) : largest_zero<T, A>(), settings.slope};
}

struct NormalizeFused {
  /// y = activation((x - mean) * scale + shift + r): x and r are read.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const NormalizeArrays<A>& coefficients,
                                           const Operands<T, 2>& tensors, const FusedSettings<A>& settings,
                                           const Access& access) {
    using P = KernelPack<T, A, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    const Index distance = access.prefetches.x.distance;
    const bool has_residual = settings.has_residual;
    const Gates<P> activation(A(0), settings.slope);
    elementwise<Normalization, P, half_max_columns<A>>(
        view, tile, tensors, access.streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          for_each_padded_pack<V>(coefficients, tile.channels(),
                                  [&](const auto& from, Index c) BATCHNORM_INLINE_LAMBDA {
                                    const Normalization<V> k = normalization_of<A, V>(from, 0);
                                    set(c, k.mean, k.scale, k.shift);
                                  });
          return true;
        },
        [&](const auto& in, Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
          using Q = typename plain<decltype(k)>::Packed;
          if (distance != 0) {
            detail::prefetch(in[0] + i + distance);
            if (has_residual) detail::prefetch(in[1] + i + distance);
          }
          Q v = k.apply(load<Q>(in[0] + i));
          if (has_residual) v = v + load<Q>(in[1] + i);
          return Results<Q, 1>{{activation.apply(v, v)}};
        });
  }
};

/// As GradientTerms, with a third tensor, y or whatever else, and with the forward's scale and shift among the pivots:
/// its mean is that of x.
template <class Packs, OtherSums Others, bool Pivoted>
struct FusedGradientTerms : GradientTerms<Others, Pivoted> {
  static constexpr std::size_t tensors = 3, pivots = 4;
  template <class A>
  static constexpr Index most_columns = half_max_columns<A>;

  FusedSettings<typename Packs::Scalar> settings;
  Gates<Packs> gradient, inverse;

  template <class P>
  struct Pivots {
    P x, dy, forward_scale, forward_shift;
    template <class F>
    static BATCHNORM_ALWAYS_INLINE Pivots of(const F& f) {
      return {f(0), f(1), f(2), f(3)};
    }
  };
  template <class P>
  using Centered = typename GradientTerms<Others, Pivoted>::template Centered<P>;
  template <class P, class F>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const F& f, const Pivots<P>& pivot) const {
    P x = f(0);
    if (settings.has_output) {
      const P dy = gradient.apply(P(f(2)), P(f(1)));
      if (settings.from_output) x = inverse.apply(x, x);
      return Centered<P>::of(x - pivot.x, dy, pivot.dy);
    }
    const P d = x - pivot.x;  // as Normalization has it
    return Centered<P>::of(d, gradient.apply(mul_add(d, pivot.forward_scale, pivot.forward_shift), P(f(1))), pivot.dy);
  }
};

struct AccumulateGradientsFused {
  /// As AccumulateGradients, of what the activation lets through of dy. `tensors` are x, dy and, where there is one, y.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const Elements<const T> (&tensors)[3],
                                           const A* means, bool own_means, const NormalizeArrays<A>& forward,
                                           const FusedSettings<A>& settings, const Prefetches& prefetches,
                                           const GradientSumArrays<A>& result) {
    using P = KernelPack<T, A, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    using Terms = FusedGradientTerms<P, is_16_bit<T> ? OtherSums::none : OtherSums::x, std::is_same_v<T, A>>;
    using Short = ShortSums<A, Terms>;
    const Index channels = tile.channels();
    std::fill_n(result.dy_pivot(), channels, A(0));
    if constexpr (std::is_same_v<T, A>) {
      if (own_means) Short::template set_pivots<P>(view, tile, tensors[1], result.dy_pivot());
    }
    // The forward's coefficients, as NormalizeFused makes them.
    A memory[2][static_cast<std::size_t>(half_max_columns<A>)];
    for (auto& quantity : memory) std::fill_n(quantity, channels, A(0));
    if (!settings.has_output) {
      const NormalizeArrays<A> of_tile = from_channel(forward, tile.channel_begin);
      for_each_pack<V>(channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
        const auto k = normalization_of<A, typename decltype(type)::Pack>(of_tile, c);
        store(memory[0] + c, k.scale);
        store(memory[1] + c, k.shift);
      });
    }
    const Prefetch prefetch[] = {prefetches.x, prefetches.dy, settings.has_output ? prefetches.x : Prefetch{}};
    const A* const pivots[] = {means + tile.channel_begin, result.dy_pivot(), memory[0], memory[1]};
    A* sums[Short::sums];
    for (std::size_t k = 0; k < Short::sums; ++k) sums[k] = result.arrays[1 + k];
    const Short sum{Terms{{}, settings, gradient_gates<P, T>(settings), {A(0), settings.inverse_slope}}};
    if (by_columns(view)) {
      sum.template by_columns<P>(view, tile, tensors, prefetch, pivots, sums);
    } else {
      sum.template by_rows<P>(view, tile, tensors, prefetch, pivots, sums);
    }
  }
};

/// The coefficients of some elements of dx, and the forward's, whose mean is that of x.
template <class P>
struct FusedGradientFormula {
  static constexpr int count = 7;
  using Packed = P;
  P mean_dy, mean, rest, projection, scale, forward_scale, forward_shift;

  friend BATCHNORM_ALWAYS_INLINE FusedGradientFormula blend(const FusedGradientFormula& a,
                                                            const FusedGradientFormula& b, Index n) {
    return {blend(a.mean_dy, b.mean_dy, n),
            blend(a.mean, b.mean, n),
            blend(a.rest, b.rest, n),
            blend(a.projection, b.projection, n),
            blend(a.scale, b.scale, n),
            blend(a.forward_scale, b.forward_scale, n),
            blend(a.forward_shift, b.forward_shift, n)};
  }
};

struct ApplyGradientsFused {
  /// Writes dx and, unless it is null, the gradient of the residual, which is what the activation lets through of dy.
  /// x, dy and, where there is one, y are read.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const GradientArrays<A>& coefficients,
                                           const NormalizeArrays<A>& forward, const Operands<T, 3, 2>& tensors,
                                           const FusedSettings<A>& settings, const Access& access) {
    using P = KernelPack<T, A, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    const Index x_distance = access.prefetches.x.distance, dy_distance = access.prefetches.dy.distance;
    // What rounding took from the means is below the last digit of dx, unless that has all of A's.
    constexpr bool has_rest = std::is_same_v<T, A>;
    const bool has_output = settings.has_output, from_output = settings.from_output, constant = settings.constant;
    const Gates<P> gradient = gradient_gates<P, T>(settings), inverse(A(0), settings.inverse_slope);
    elementwise<FusedGradientFormula, P, half_max_columns<A>>(
        view, tile, tensors, access.streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          // One channel at a time: two sets of arrays that may end in the middle of a pack.
          using One = typename V::One;
          for (Index c = 0; c < tile.channels(); ++c) {
            const One zero = One::all(A(0));
            GradientFormula<One> k{zero, zero, zero, zero, load<One>(coefficients.scale() + c)};
            if (!settings.constant) k = gradient_formula_of<A, One>(coefficients, c);
            if constexpr (!has_rest) k.mean_dy = k.mean_dy - k.rest;
            Normalization<One> f{zero, zero, zero};
            if (!settings.has_output) f = normalization_of<A, One>(forward, c);
            if (settings.constant && !settings.has_output) k.mean = f.mean;
            set(c, k.mean_dy, k.mean, k.rest, k.projection, k.scale, f.scale, f.shift);
          }
          return true;
        },
        [&](const auto& in, Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
          using Q = typename plain<decltype(k)>::Packed;
          if (x_distance != 0) {
            detail::prefetch(in[0] + i + x_distance);
            if (has_output) detail::prefetch(in[2] + i + x_distance);
          }
          if (dy_distance != 0) detail::prefetch(in[1] + i + dy_distance);
          Q x = load<Q>(in[0] + i), dy = load<Q>(in[1] + i);
          if (has_output) {
            dy = gradient.apply(load<Q>(in[2] + i), dy);
            if (from_output) x = inverse.apply(x, x);
          }
          const Q d = x - k.mean;
          if (!has_output) dy = gradient.apply(mul_add(d, k.forward_scale, k.forward_shift), dy);
          if (constant) return Results<Q, 2>{{dy * k.scale, dy}};
          Q dx = sub_mul(dy - k.mean_dy, d, k.projection);
          if constexpr (has_rest) dx = dx + k.rest;
          return Results<Q, 2>{{dx * k.scale, dy}};
        });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_FUSED_HPP
