// The second primitive: y = (x - mean) * scale + shift, with a mean, scale and shift for each channel.
//
// The mean is subtracted first, rounded to the type of the computation, where x - mean is exact or nearly so for any x
// near it; what rounding took from the mean goes into the shift. x * scale + (shift - mean * scale) costs the same and
// loses all digits to cancellation when the mean is large.

#ifndef BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP
#define BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP

#include "batchnorm/detail/kernels/elementwise.hpp"
#include "batchnorm/detail/kernels/float_pairs.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/kernels/rounding.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The coefficients of some elements of y.
template <class P>
struct Normalization {
  static constexpr int count = 3;
  using Packed = P;
  P mean, scale, shift;

  BATCHNORM_ALWAYS_INLINE P apply(const P& x) const { return mul_add(x - mean, scale, shift); }

  friend BATCHNORM_ALWAYS_INLINE Normalization blend(const Normalization& a, const Normalization& b, Index n) {
    return {blend(a.mean, b.mean, n), blend(a.scale, b.scale, n), blend(a.shift, b.shift, n)};
  }
};

/// Those of the channels from c on, with means that are C's: what that takes from the mean goes into the shift.
template <class C, class V, class A>
BATCHNORM_ALWAYS_INLINE Normalization<V> normalization_of(const NormalizeArrays<A>& exact, Index c) {
  const V mean = load<V>(exact.mean() + c), scale = load<V>(exact.scale() + c), rounded = rounded_to<C>(mean);
  V rest = mean - rounded;
  if (exact.mean_residual() != nullptr) rest = rest + load<V>(exact.mean_residual() + c);
  return {rounded, scale, sub_mul(load<V>(exact.shift() + c), rest, scale)};
}

struct Normalize {
  /// Writes the tile's elements of y, by coefficients of the tile's channels. x and y, which may be x, are the whole
  /// tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const NormalizeArrays<A>& coefficients,
                                           const Operands<T, 1>& x_to_y, const Access& access) {
    const Index distance = access.prefetches.x.distance;
    const auto element = [&](const auto& in, Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      if (distance != 0) detail::prefetch(in[0] + i + distance);
      using Q = typename plain<decltype(k)>::Packed;
      return Results<Q, 1>{{k.apply(load<Q>(in[0] + i))}};
    };
    if constexpr (uses_float_pairs<T, Bytes>) {
      by_float_pairs<FloatPairsPack<T, Bytes>>(view, tile, coefficients, x_to_y, access.streams, element);
    } else {
      by_coefficients<Bytes>(view, tile, coefficients, x_to_y, access.streams, element);
    }
  }

 private:
  template <int Bytes, class T, class A, class Element>
  static BATCHNORM_ALWAYS_INLINE void by_coefficients(const View& view, const Tile& tile,
                                                      const NormalizeArrays<A>& coefficients,
                                                      const Operands<T, 1>& x_to_y, bool streams,
                                                      const Element& element) {
    using C = compute_t<T>;
    using P = KernelPack<T, C, Bytes>;
    using V = ExactPack<T, A, Bytes>;
    const bool done = elementwise<Normalization, P, max_columns<A>>(
        view, tile, x_to_y, streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          RangeCheck<V> out_of_range;
          for_each_padded_pack<V>(
              coefficients, tile.channels(), [&](const auto& from, Index c) BATCHNORM_INLINE_LAMBDA {
                const Normalization<V> k = normalization_of<C, V>(from, 0);
                if constexpr (!std::is_same_v<C, A>) check(out_of_range, k, from, 0);
                set(c, without_payload<T>(k.mean), without_payload<T>(k.scale), without_payload<T>(k.shift));
              });
          return !out_of_range.found();
        },
        element);
    if constexpr (!std::is_same_v<C, A>) {
      if (!done) by_channel<Normalization<typename P::One>>(tile, coefficients, x_to_y);
    }
  }

  // Whether floats have the range for the elements of some channels.
  template <class V>
  static BATCHNORM_ALWAYS_INLINE void check(RangeCheck<V>& out_of_range, const Normalization<V>& k,
                                            const NormalizeArrays<double>& exact, Index c) {
    check_term(out_of_range, load<V>(exact.mean() + c));
    check_factor(out_of_range, k.scale);
    check_term(out_of_range, k.shift);
  }

  // Sets the coefficients of one channel; false where floats have not the range.
  template <class T, class One>
  static BATCHNORM_ALWAYS_INLINE bool in_floats(const NormalizeArrays<double>& coefficients, Index c,
                                                Normalization<One>& result) {
    using V = Pack<double, 1, One::fused>;
    const Normalization<V> k = normalization_of<float, V>(coefficients, c);
    RangeCheck<V> out_of_range;
    check(out_of_range, k, coefficients, c);
    result = {load<One>(k.mean.v), load<One>(k.scale.v), load<One>(k.shift.v)};
    return !out_of_range.found();
  }

  // The same in pairs of floats: see float_pairs.hpp.
  template <class T, class One>
  static BATCHNORM_ALWAYS_INLINE bool in_floats(const NormalizeArrays<double>& k, Index c, FloatPairs<One>& result) {
    const double mean_residual = k.mean_residual() == nullptr ? 0 : k.mean_residual()[c];
    return set_float_pairs<T>(k.mean()[c], mean_residual, k.scale()[c], k.shift()[c], result);
  }

  template <class P, class T, class Element>
  static BATCHNORM_ALWAYS_INLINE void by_float_pairs(const View& view, const Tile& tile,
                                                     const NormalizeArrays<double>& coefficients,
                                                     const Operands<T, 1>& x_to_y, bool streams,
                                                     const Element& element) {
    const bool done = elementwise<FloatPairs, P, max_columns<double>>(
        view, tile, x_to_y, streams,
        [&](const auto& set) BATCHNORM_INLINE_LAMBDA {
          for (Index c = 0; c < tile.channels(); ++c) {
            FloatPairs<typename P::One> k{};
            if (!in_floats<T>(coefficients, c, k)) return false;
            set(c, k.pivot, k.scale, k.scale_low, k.shift, k.shift_low);
          }
          return true;
        },
        element);
    if (!done) by_channel<FloatPairs<typename P::One>>(tile, coefficients, x_to_y);
  }

  // Each channel in floats or, where they have not the range, in double. What is rare is compiled once, not for each
  // instruction set: only whether it has fused operations counts.
  template <class Formula, class T>
  static BATCHNORM_COLD void by_channel(const Tile& tile, const NormalizeArrays<double>& coefficients,
                                        const Operands<T, 1>& x_to_y) {
    using One = typename Formula::Packed;
    using Exact = Pack<double, 1, One::fused>;
    elementwise_by_channel(tile, x_to_y, [&](Index c) {
      Formula k{};
      const bool ordinary = in_floats<T>(coefficients, c, k);
      const Normalization<Exact> exact = normalization_of<double, Exact>(coefficients, c);
      return [=](const T* const(&in)[1], Index i) {
        return ordinary ? k.apply(load<One>(in[0] + i)) : One::all(to_float(exact.apply(load<Exact>(in[0] + i)).v[0]));
      };
    });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP
