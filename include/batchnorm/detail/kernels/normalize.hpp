// The second primitive: y = (x - mean) * scale + shift, with a mean, scale and shift for each channel.
//
// The mean is subtracted first, rounded to the type of the computation, where x - m is exact or nearly so for any x
// near it; what rounding took from the mean goes into the shift. x * scale + (shift - mean * scale) costs the same and
// loses all digits to cancellation when the mean is large.

#ifndef BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP
#define BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP

#include "batchnorm/detail/kernels/float_pairs.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/kernels/transform.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// y = (x - mean - mean_residual) * scale + shift.
template <class A>
struct NormalizeTerms : PerChannel<A, 4> {
  A* mean() const { return this->arrays[0]; }
  A* mean_residual() const { return this->arrays[1]; }
  A* scale() const { return this->arrays[2]; }
  A* shift() const { return this->arrays[3]; }
};

struct Normalize {
  /// Has the terms of the tile's channels. y may be x.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const NormalizeTerms<A>& terms,
                                           const T* x, T* y, Access access) {
    if constexpr (is_16_bit<T> && has_fused<Bytes>) {
      by_float_pairs<float_pairs_pack<T, Bytes>>(view, tile, terms, x, y, access);
    } else {
      by_coefficients<Bytes>(view, tile, terms, x, y, access);
    }
  }

 private:
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_coefficients(const View& view, const Tile& tile,
                                                      const NormalizeTerms<A>& terms, const T* x, T* y, Access access) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    const Index channels = tile.channels();
    C mean[max_columns], scale[max_columns], extra[max_columns], shift[max_columns];
    using Wider = Pack<A, lanes<T, A, Bytes>>;
    for_each_pack<Wider>(channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      using V = typename decltype(type)::Pack;
      const V exact = load<V>(terms.mean() + c);
      store(mean + c, exact);
      const V rest = (exact - load<V>(mean + c)) + load<V>(terms.mean_residual() + c);
      const V exact_scale = load<V>(terms.scale() + c);
      store(scale + c, exact_scale);
      store(shift + c, sub_mul(load<V>(terms.shift() + c), rest, exact_scale));
    });
    const bool any_extra = split_factors(terms.scale(), channels, scale, extra);
    drop_payloads<T>(mean, channels);
    drop_payloads<T>(scale, channels);
    drop_payloads<T>(shift, channels);

    if (any_extra) {  // rare: no wider than it must be
      using One = Pack<C, 1>;
      transform_singly(view, tile, y, [&](Index i, Index c) BATCHNORM_INLINE_LAMBDA {
        const One centered = (load<One>(x + i) - One::all(mean[c])) * One::all(extra[c]);
        return mul_add(centered, One::all(scale[c]), One::all(shift[c]));
      });
      return;
    }
    const auto result = [&](Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      using Q = decltype(k.mean);
      if (access.ahead.x != 0) detail::prefetch(x + i + access.ahead.x);
      return mul_add(load<Q>(x + i) - k.mean, k.scale, k.shift);
    };
    transform<Coefficients, P>(view, tile, y, access.streams, {mean, scale, shift}, result);
  }

  // See float_pairs.hpp. Channels for which it says so are computed in double.
  template <class P, class T>
  static BATCHNORM_ALWAYS_INLINE void by_float_pairs(const View& view, const Tile& tile,
                                                     const NormalizeTerms<double>& terms, const T* x, T* y,
                                                     Access access) {
    using One = Pack<float, 1>;
    const Index channels = tile.channels();
    float center[max_columns], scale[max_columns], scale_low[max_columns], shift[max_columns], shift_low[max_columns];
    bool in_floats[max_columns], all_in_floats = true;
    for (Index c = 0; c < channels; ++c) {
      FloatPairs<One> k{};
      in_floats[c] =
          set_float_pairs<T>(terms.mean()[c], terms.mean_residual()[c], terms.scale()[c], terms.shift()[c], k);
      all_in_floats = all_in_floats && in_floats[c];
      store(center + c, k.center);
      store(scale + c, k.scale);
      store(scale_low + c, k.scale_low);
      store(shift + c, k.shift);
      store(shift_low + c, k.shift_low);
    }
    const auto result = [&](Index i, const auto& k) BATCHNORM_INLINE_LAMBDA {
      using Q = decltype(k.center);
      if (access.ahead.x != 0) detail::prefetch(x + i + access.ahead.x);
      return k.apply(load<Q>(x + i));
    };
    if (all_in_floats) {
      transform<FloatPairs, P>(view, tile, y, access.streams, {center, scale, scale_low, shift, shift_low}, result);
      return;
    }
    transform_singly(view, tile, y, [&](Index i, Index c) BATCHNORM_INLINE_LAMBDA {
      if (in_floats[c]) {
        return result(i, FloatPairs<One>{load<One>(center + c), load<One>(scale + c), load<One>(scale_low + c),
                                         load<One>(shift + c), load<One>(shift_low + c)});
      }
      const double rest = terms.shift()[c] - terms.mean_residual()[c] * terms.scale()[c];
      const double value = (convert<double>(x[i]) - terms.mean()[c]) * terms.scale()[c] + rest;
      return One::all(value == value ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN());
    });
  }

  template <class P>
  struct Coefficients {
    P mean, scale, shift;

    friend BATCHNORM_ALWAYS_INLINE Coefficients blend(const Coefficients& a, const Coefficients& b, Index count) {
      return {blend(a.mean, b.mean, count), blend(a.scale, b.scale, count), blend(a.shift, b.shift, count)};
    }
  };
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_NORMALIZE_HPP
