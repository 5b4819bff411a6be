// The fourth primitive: dx = ((dy - mean_dy) - (x - mean) * projection) * scale, with terms for each channel.
//
// The order matters: dy - mean_dy and x - mean are differences of neighbours, exact or nearly so, and only what is left
// of them is scaled. Means are rounded to the type of the computation and what rounding took from them is one more
// term, added before the scale.

#ifndef BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP

#include "batchnorm/detail/kernels/float_pairs.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/kernels/transform.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// dx = ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale. Of the x it is told how far from the mean
/// they reach, which changes no more than the rounding; a reach of 0 tells nothing.
template <class A>
struct GradientTerms : PerChannel<A, 6> {
  A* mean_dy() const { return this->arrays[0]; }
  A* mean() const { return this->arrays[1]; }
  A* mean_residual() const { return this->arrays[2]; }
  A* projection() const { return this->arrays[3]; }
  A* scale() const { return this->arrays[4]; }
  A* reach() const { return this->arrays[5]; }
};

struct ApplyGradients {
  /// Has the terms of the tile's channels. dx may be dy or x.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const GradientTerms<A>& terms,
                                           const T* x, const T* dy, T* dx, Access access) {
    if constexpr (is_16_bit<T> && has_fused<Bytes>) {
      by_float_pairs<Bytes>(view, tile, terms, x, dy, dx, access);
    } else {
      by_coefficients<Bytes>(view, tile, terms, x, dy, dx, access);
    }
  }

 private:
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_coefficients(const View& view, const Tile& tile, const GradientTerms<A>& terms,
                                                      const T* x, const T* dy, T* dx, Access access) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    const Index channels = tile.channels();
    C mean_dy[max_columns], mean[max_columns], rest[max_columns];
    C projection[max_columns], extra_projection[max_columns], scale[max_columns], extra_scale[max_columns];
    using Wider = Pack<A, lanes<T, A, Bytes>>;
    for_each_pack<Wider>(channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      using V = typename decltype(type)::Pack;
      const V exact_dy = load<V>(terms.mean_dy() + c), exact = load<V>(terms.mean() + c);
      store(mean_dy + c, exact_dy);
      store(mean + c, exact);
      const V mean_rest = (exact - load<V>(mean + c)) + load<V>(terms.mean_residual() + c);
      const V exact_projection = load<V>(terms.projection() + c);
      store(projection + c, exact_projection);
      store(scale + c, load<V>(terms.scale() + c));
      store(rest + c, mean_rest * exact_projection - (exact_dy - load<V>(mean_dy + c)));
    });
    const bool extra_p = split_factors(terms.projection(), channels, projection, extra_projection);
    const bool extra_s = split_factors(terms.scale(), channels, scale, extra_scale);
    for (C* coefficients : {mean_dy, mean, rest, projection, scale}) drop_payloads<T>(coefficients, channels);

    if (extra_p || extra_s) {  // rare: no wider than it must be
      using One = Pack<C, 1>;
      if (!extra_p) std::fill_n(extra_projection, channels, C(1));
      if (!extra_s) std::fill_n(extra_scale, channels, C(1));
      transform_singly(view, tile, dx, [&](Index i, Index c) BATCHNORM_INLINE_LAMBDA {
        const One centered = (load<One>(x + i) - One::all(mean[c])) * One::all(extra_projection[c]);
        const One g = load<One>(dy + i) - One::all(mean_dy[c]);
        const One sum = sub_mul(g, centered, One::all(projection[c])) + One::all(rest[c]);
        return sum * One::all(extra_scale[c]) * One::all(scale[c]);
      });
      return;
    }
    const auto result = [&](Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      using Q = decltype(k.mean);
      if (access.ahead.x != 0) detail::prefetch(x + i + access.ahead.x);
      if (access.ahead.dy != 0) detail::prefetch(dy + i + access.ahead.dy);
      const Q centered = load<Q>(x + i) - k.mean, g = load<Q>(dy + i) - k.mean_dy;
      return (sub_mul(g, centered, k.projection) + k.rest) * k.scale;
    };
    transform<Coefficients, P>(view, tile, dx, access.streams, {mean_dy, mean, rest, projection, scale}, result);
  }

  // See float_pairs.hpp. Channels for which it says so are computed in double.
  template <int Bytes, class T>
  static BATCHNORM_ALWAYS_INLINE void by_float_pairs(const View& view, const Tile& tile,
                                                     const GradientTerms<double>& terms, const T* x, const T* dy, T* dx,
                                                     Access access) {
    using P = float_pairs_pack<T, Bytes>;
    using One = Pack<float, 1>;
    const Index channels = tile.channels();
    float center[max_columns], projection[max_columns], projection_low[max_columns];
    float anchor[max_columns], anchored_rest[max_columns], rest_low[max_columns], scale[max_columns];
    double exact_rest[max_columns];
    bool in_floats[max_columns], all_in_floats = true, any_in_floats = false;
    for (Index c = 0; c < channels; ++c) {
      GradientFloatPairs<One> k{};
      in_floats[c] = set_float_pairs<T>(terms.mean_dy()[c], terms.mean()[c], terms.mean_residual()[c],
                                        terms.projection()[c], terms.scale()[c], terms.reach()[c], k);
      all_in_floats = all_in_floats && in_floats[c];
      any_in_floats = any_in_floats || in_floats[c];
      const double mean = terms.mean()[c], mean_dy = terms.mean_dy()[c];
      exact_rest[c] = ((mean - mean) + terms.mean_residual()[c]) * terms.projection()[c] - (mean_dy - mean_dy);
      store(center + c, k.center);
      store(projection + c, k.projection);
      store(projection_low + c, k.projection_low);
      store(anchor + c, k.anchor);
      store(anchored_rest + c, k.anchored_rest);
      store(rest_low + c, k.rest_low);
      store(scale + c, k.scale);
    }
    const auto result = [&](Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      using Q = decltype(k.center);
      if (access.ahead.x != 0) detail::prefetch(x + i + access.ahead.x);
      if (access.ahead.dy != 0) detail::prefetch(dy + i + access.ahead.dy);
      return k.apply(load<Q>(x + i), load<Q>(dy + i));
    };
    if (all_in_floats) {
      transform<GradientFloatPairs, P>(view, tile, dx, access.streams,
                                       {center, projection, projection_low, anchor, anchored_rest, rest_low, scale},
                                       result);
      return;
    }
    if (!any_in_floats) return by_coefficients<Bytes>(view, tile, terms, x, dy, dx, access);
    transform_singly(view, tile, dx, [&](Index i, Index c) BATCHNORM_INLINE_LAMBDA {
      if (in_floats[c]) {
        return result(
            i, GradientFloatPairs<One>{load<One>(center + c), load<One>(projection + c), load<One>(projection_low + c),
                                       load<One>(anchor + c), load<One>(anchored_rest + c), load<One>(rest_low + c),
                                       load<One>(scale + c)});
      }
      // As by_coefficients, of which no bit may differ, nor whether Inf or NaN comes out: what lies beside a channel in
      // a tile depends on the threads.
      using Exact = Pack<double, 1>;
      const Exact k = Exact::all(terms.projection()[c]);
      const Exact centered = load<Exact>(x + i) - Exact::all(terms.mean()[c]);
      const Exact g = load<Exact>(dy + i) - Exact::all(terms.mean_dy()[c]);
      const Exact sum = sub_mul(g, centered, k) + Exact::all(exact_rest[c]);
      const double value = (sum * Exact::all(terms.scale()[c])).v[0];
      return One::all(value == value ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN());
    });
  }

  template <class P>
  struct Coefficients {
    P mean_dy, mean, rest, projection, scale;

    friend BATCHNORM_ALWAYS_INLINE Coefficients blend(const Coefficients& a, const Coefficients& b, Index count) {
      return {blend(a.mean_dy, b.mean_dy, count), blend(a.mean, b.mean, count), blend(a.rest, b.rest, count),
              blend(a.projection, b.projection, count), blend(a.scale, b.scale, count)};
    }
  };
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_APPLY_GRADIENTS_HPP
