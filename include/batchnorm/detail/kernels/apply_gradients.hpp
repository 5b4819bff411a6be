// The fourth primitive: dx = ((dy - mean_dy) - (x - mean) * projection) * scale, with coefficients for each channel.
//
// The order matters: dy - mean_dy and x - mean are differences of neighbours, exact or nearly so, and only what is left
// of them is scaled. Means are rounded to the type of the computation and what rounding took from them is one more
// term, added before the scale.

#ifndef BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP

#include "batchnorm/detail/kernels/elementwise.hpp"
#include "batchnorm/detail/kernels/float_pairs.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/kernels/rounding.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The coefficients of some elements of dx.
template <class P>
struct GradientFormula {
  static constexpr int count = 5;
  using Packed = P;
  P mean_dy, mean, rest, projection, scale;

  BATCHNORM_ALWAYS_INLINE P apply(const P& x, const P& dy) const {
    return (sub_mul(dy - mean_dy, x - mean, projection) + rest) * scale;
  }

  friend BATCHNORM_ALWAYS_INLINE GradientFormula blend(const GradientFormula& a, const GradientFormula& b, Index n) {
    return {blend(a.mean_dy, b.mean_dy, n), blend(a.mean, b.mean, n), blend(a.rest, b.rest, n),
            blend(a.projection, b.projection, n), blend(a.scale, b.scale, n)};
  }
};

/// Those of the channels from c on, with means that are C's.
template <class C, class V, class A>
BATCHNORM_ALWAYS_INLINE GradientFormula<V> gradient_formula_of(const GradientArrays<A>& exact, Index c) {
  const V mean_dy = load<V>(exact.mean_dy() + c), rounded_dy = rounded_to<C>(mean_dy);
  const V mean = load<V>(exact.mean() + c), rounded = rounded_to<C>(mean);
  const V mean_rest = (mean - rounded) + load<V>(exact.mean_residual() + c);
  const V projection = load<V>(exact.projection() + c);
  return {rounded_dy, rounded, mul_add(mean_rest, projection, rounded_dy - mean_dy), projection,
          load<V>(exact.scale() + c)};
}

struct ApplyGradients {
  /// Writes the tile's elements of dx, by coefficients of the tile's channels. x and dy, which are read, and dx, which
  /// may be either, are the whole tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const GradientArrays<A>& coefficients,
                                           const Operands<T, 2>& tensors, const Access& access) {
    const Index x_distance = access.prefetches.x.distance, dy_distance = access.prefetches.dy.distance;
    const auto element = [&](const auto& in, Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      using Q = typename plain<decltype(k)>::Packed;
      if (x_distance != 0) detail::prefetch(in[0] + i + x_distance);
      if (dy_distance != 0) detail::prefetch(in[1] + i + dy_distance);
      return Results<Q, 1>{{k.apply(load<Q>(in[0] + i), load<Q>(in[1] + i))}};
    };
    if constexpr (uses_float_pairs<T, Bytes>) {
      by_float_pairs<Bytes>(view, tile, coefficients, tensors, access.streams, element);
    } else {
      by_coefficients<Bytes>(view, tile, coefficients, tensors, access.streams, element);
    }
  }

 private:
  template <int Bytes, class T, class A, class Element>
  static BATCHNORM_ALWAYS_INLINE void by_coefficients(const View& view, const Tile& tile,
                                                      const GradientArrays<A>& coefficients,
                                                      const Operands<T, 2>& tensors, bool streams,
                                                      const Element& element) {
    using C = compute_t<T>;
    using P = KernelPack<T, C, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    const bool done = elementwise<GradientFormula, P, max_columns<A>>(
        view, tile, tensors, streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          RangeCheck<V> out_of_range;
          for_each_padded_pack<V>(
              coefficients, tile.channels(), [&](const auto& from, Index c) BATCHNORM_INLINE_LAMBDA {
                const GradientFormula<V> k = gradient_formula_of<C, V>(from, 0);
                if constexpr (!std::is_same_v<C, A>) check(out_of_range, k, from, 0);
                set(c, without_payload<T>(k.mean_dy), without_payload<T>(k.mean), without_payload<T>(k.rest),
                    without_payload<T>(k.projection), without_payload<T>(k.scale));
              });
          return !out_of_range.found();
        },
        element);
    if constexpr (!std::is_same_v<C, A>) {
      if (!done) by_channel<GradientFormula<typename P::One>>(tile, coefficients, tensors);
    }
  }

  // Whether floats have the range for the elements of some channels, also for (x - mean) * projection as far as x
  // reaches.
  template <class V>
  static BATCHNORM_ALWAYS_INLINE void check(RangeCheck<V>& out_of_range, const GradientFormula<V>& k,
                                            const GradientArrays<double>& coefficients, Index c) {
    check_term(out_of_range, load<V>(coefficients.mean_dy() + c));
    check_term(out_of_range, load<V>(coefficients.mean() + c));
    check_term(out_of_range, k.rest);
    check_factor(out_of_range, k.projection);
    check_factor(out_of_range, k.scale);
    if (coefficients.max_deviation() != nullptr) {
      check_term(out_of_range, load<V>(coefficients.max_deviation() + c) * k.projection);
    }
  }

  // Sets the coefficients of one channel; false where floats have not the range.
  template <class T, class One>
  static BATCHNORM_ALWAYS_INLINE bool in_floats(const GradientArrays<double>& coefficients, Index c,
                                                GradientFormula<One>& result) {
    using V = Pack<double, 1, One::fused>;
    const GradientFormula<V> k = gradient_formula_of<float, V>(coefficients, c);
    RangeCheck<V> out_of_range;
    check(out_of_range, k, coefficients, c);
    result = {load<One>(k.mean_dy.v), load<One>(k.mean.v), load<One>(k.rest.v), load<One>(k.projection.v),
              load<One>(k.scale.v)};
    return !out_of_range.found();
  }

  // The same in pairs of floats: see float_pairs.hpp.
  template <class T, class One>
  static BATCHNORM_ALWAYS_INLINE bool in_floats(const GradientArrays<double>& k, Index c,
                                                GradientFloatPairs<One>& result) {
    const double max_deviation = k.max_deviation() == nullptr ? 0 : k.max_deviation()[c];
    return set_float_pairs<T>(k.mean_dy()[c], k.mean()[c], k.mean_residual()[c], k.projection()[c], k.scale()[c],
                              max_deviation, result);
  }

  template <int Bytes, class T, class Element>
  static BATCHNORM_ALWAYS_INLINE void by_float_pairs(const View& view, const Tile& tile,
                                                     const GradientArrays<double>& coefficients,
                                                     const Operands<T, 2>& tensors, bool streams,
                                                     const Element& element) {
    using P = FloatPairsPack<T, Bytes>;
    bool any_in_floats = false;
    const bool done = elementwise<GradientFloatPairs, P, max_columns<double>>(
        view, tile, tensors, streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          for (Index c = 0; c < tile.channels(); ++c) {
            GradientFloatPairs<typename P::One> k{};
            if (!in_floats<T>(coefficients, c, k)) return false;
            any_in_floats = true;
            set(c, k.pivot, k.projection, k.projection_low, k.anchor, k.anchored_rest, k.rest_low, k.scale);
          }
          return true;
        },
        element);
    if (done) return;
    // Coefficients of a caller, who tells no deviation, are like this in every channel: in double, but pack by pack.
    for (Index c = 0; !any_in_floats && c < tile.channels(); ++c) {
      GradientFloatPairs<typename P::One> k{};
      any_in_floats = in_floats<T>(coefficients, c, k);
    }
    if (any_in_floats) {
      by_channel<GradientFloatPairs<typename P::One>>(tile, coefficients, tensors);
    } else {
      by_coefficients<Bytes>(view, tile, coefficients, tensors, streams, element);
    }
  }

  // Each channel in floats or, where they have not the range, in double; compiled once, as Normalize's.
  template <class Formula, class T>
  static BATCHNORM_COLD void by_channel(const Tile& tile, const GradientArrays<double>& coefficients,
                                        const Operands<T, 2>& tensors) {
    using One = typename Formula::Packed;
    using Exact = Pack<double, 1, One::fused>;
    elementwise_by_channel(tile, tensors, [&](Index c) {
      Formula k{};
      const bool ordinary = in_floats<T>(coefficients, c, k);
      const GradientFormula<Exact> exact = gradient_formula_of<double, Exact>(coefficients, c);
      return [=](const T* const(&in)[2], Index i) {
        return ordinary ? k.apply(load<One>(in[0] + i), load<One>(in[1] + i))
                        : One::all(to_float(exact.apply(load<Exact>(in[0] + i), load<Exact>(in[1] + i)).v[0]));
      };
    });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP
