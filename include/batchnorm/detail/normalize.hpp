// The second primitive: y = (x - mean) * scale + shift, with a mean, scale and shift for each channel.
//
// The mean is subtracted first, rounded to the type of the computation, where x - m is exact or nearly so for any x
// near it; what rounding took from the mean goes into the shift. x * scale + (shift - mean * scale) costs the same and
// loses all digits to cancellation when the mean is large.

#ifndef BATCHNORM_DETAIL_NORMALIZE_HPP
#define BATCHNORM_DETAIL_NORMALIZE_HPP

#include "batchnorm/detail/per_channel.hpp"
#include "batchnorm/detail/transform.hpp"

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
      if (access.ahead != 0) detail::prefetch(x + i + access.ahead);
      return mul_add(load<Q>(x + i) - k.mean, k.scale, k.shift);
    };
    transform<Coefficients, P>(view, tile, y, access.streams, {mean, scale, shift}, result);
  }

 private:
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

#endif  // BATCHNORM_DETAIL_NORMALIZE_HPP
