// The second primitive: y = (x - mean) * scale + shift, with a mean, scale and shift for each channel.
//
// The mean is subtracted first, rounded to the type of the computation, where x - m is exact or nearly so for any x
// near it; what rounding took from the mean goes into the shift. x * scale + (shift - mean * scale) costs the same and
// loses all digits to cancellation when the mean is large.

#ifndef BATCHNORM_DETAIL_NORMALIZE_HPP
#define BATCHNORM_DETAIL_NORMALIZE_HPP

#include "batchnorm/detail/columns.hpp"
#include "batchnorm/detail/transform.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// y = (x - mean - mean_residual) * scale + shift.
template <class A>
struct NormalizeTerms {
  A mean, mean_residual, scale, shift;
};

struct Normalize {
  /// Has the terms of the tile's channels in terms[0 ... tile.channels()). y may be x.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const NormalizeTerms<A>* terms,
                                           const T* x, T* y, Access access) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    Rounded<C> rounded[max_columns];
    bool any_extra = false;
    for (Index c = 0; c < tile.channels(); ++c) {
      rounded[c] = round<T, C>(terms[c]);
      any_extra = any_extra || !(rounded[c].scale.extra == C(1));
    }

    // Each column's coefficients, and the first ones again for packs that go past the last.
    const Runs runs(view, tile);
    ColumnArray<P> means, scales, extra_scales, shifts;
    const Index phase = packs_phase<P>(y + runs.begin(0));
    C *const mean = means.from(phase), *const scale = scales.from(phase);
    C *const extra_scale = extra_scales.from(phase), *const shift = shifts.from(phase);
    const auto set = [&](Index c, Index j, Index n) BATCHNORM_INLINE_LAMBDA {
      fill<P>(mean + j, n, rounded[c].mean);
      fill<P>(scale + j, n, rounded[c].scale.main);
      fill<P>(shift + j, n, rounded[c].shift);
      if (any_extra) fill<P>(extra_scale + j, n, rounded[c].scale.extra);
    };
    const bool by_columns = writes_by_columns(view);
    if (by_columns) {
      const Columns columns(view, tile);
      columns.for_each_channel(set);
      if (runs.wraps()) {
        repeat_first(columns.width, P::size, mean, scale, shift);
        if (any_extra) repeat_first(columns.width, P::size, extra_scale);
      }
    }
    const Index columns_mask = by_columns ? -1 : 0;

    for (Index r = 0; r < runs.count; ++r) {
      if (!by_columns) set(runs.channel(r), 0, P::size);
      const T* const from = x + runs.begin(r);
      transform<P>(y + runs.begin(r), runs.n, runs.period, access.streams,
                   [&](auto type, Index i, Index column) BATCHNORM_INLINE_LAMBDA {
                     using Q = typename decltype(type)::Pack;
                     const Index j = column & columns_mask;
                     detail::prefetch(from + i + access.ahead);
                     Q centered = load<Q>(from + i) - load<Q>(mean + j);
                     if (any_extra) centered = centered * load<Q>(extra_scale + j);
                     return mul_add(centered, load<Q>(scale + j), load<Q>(shift + j));
                   });
    }
    if (access.streams) finish_streaming();
  }

 private:
  template <class C>
  struct Rounded {
    C mean, shift;
    Factors<C> scale;
  };

  template <class T, class C, class A>
  static BATCHNORM_ALWAYS_INLINE Rounded<C> round(const NormalizeTerms<A>& terms) {
    const C mean = coefficient<T>(static_cast<C>(terms.mean));
    const A rest = (terms.mean - A(mean)) + terms.mean_residual;
    return {mean, coefficient<T>(static_cast<C>(terms.shift - rest * terms.scale)),
            factors<C>(coefficient<T>(terms.scale))};
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_NORMALIZE_HPP
