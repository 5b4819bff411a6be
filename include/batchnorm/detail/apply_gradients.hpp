// The fourth primitive: dx = ((dy - mean_dy) - (x - mean) * projection) * scale, with terms for each channel.
//
// The order matters: dy - mean_dy and x - mean are differences of neighbours, exact or nearly so, and only what is left
// of them is scaled. Means are rounded to the type of the computation and what rounding took from them is one more
// term, added before the scale.

#ifndef BATCHNORM_DETAIL_APPLY_GRADIENTS_HPP
#define BATCHNORM_DETAIL_APPLY_GRADIENTS_HPP

#include "batchnorm/detail/columns.hpp"
#include "batchnorm/detail/transform.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// dx = ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale.
template <class A>
struct GradientTerms {
  A mean_dy, mean, mean_residual, projection, scale;
};

struct ApplyGradients {
  /// Has the terms of the tile's channels in terms[0 ... tile.channels()). dx may be dy or x.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const GradientTerms<A>* terms,
                                           const T* x, const T* dy, T* dx, Access access) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    Rounded<C> rounded[max_columns];
    bool any_extra = false;
    for (Index c = 0; c < tile.channels(); ++c) {
      rounded[c] = round<T, C>(terms[c]);
      any_extra = any_extra || !(rounded[c].projection.extra == C(1) && rounded[c].scale.extra == C(1));
    }

    // Each column's coefficients, and the first ones again for packs that go past the last.
    const Runs runs(view, tile);
    ColumnArray<P> means_dy, means, rests, projections, extra_projections, scales, extra_scales;
    const Index phase = packs_phase<P>(dx + runs.begin(0));
    C *const mean_dy = means_dy.from(phase), *const mean = means.from(phase), *const rest = rests.from(phase);
    C *const projection = projections.from(phase), *const extra_projection = extra_projections.from(phase);
    C *const scale = scales.from(phase), *const extra_scale = extra_scales.from(phase);
    const auto set = [&](Index c, Index j, Index n) BATCHNORM_INLINE_LAMBDA {
      fill<P>(mean_dy + j, n, rounded[c].mean_dy);
      fill<P>(mean + j, n, rounded[c].mean);
      fill<P>(rest + j, n, rounded[c].rest);
      fill<P>(projection + j, n, rounded[c].projection.main);
      fill<P>(scale + j, n, rounded[c].scale.main);
      if (any_extra) {
        fill<P>(extra_projection + j, n, rounded[c].projection.extra);
        fill<P>(extra_scale + j, n, rounded[c].scale.extra);
      }
    };
    const bool by_columns = writes_by_columns(view);
    if (by_columns) {
      const Columns columns(view, tile);
      columns.for_each_channel(set);
      if (runs.wraps()) {
        repeat_first(columns.width, P::size, mean_dy, mean, rest, projection, scale);
        if (any_extra) repeat_first(columns.width, P::size, extra_projection, extra_scale);
      }
    }
    const Index columns_mask = by_columns ? -1 : 0;

    for (Index r = 0; r < runs.count; ++r) {
      if (!by_columns) set(runs.channel(r), 0, P::size);
      const T *const x_run = x + runs.begin(r), *const dy_run = dy + runs.begin(r);
      transform<P>(dx + runs.begin(r), runs.n, runs.period, access.streams,
                   [&](auto type, Index i, Index column) BATCHNORM_INLINE_LAMBDA {
                     using Q = typename decltype(type)::Pack;
                     const Index j = column & columns_mask;
                     detail::prefetch(x_run + i + access.ahead);
                     detail::prefetch(dy_run + i + access.ahead);
                     Q centered = load<Q>(x_run + i) - load<Q>(mean + j);
                     if (any_extra) centered = centered * load<Q>(extra_projection + j);
                     const Q g = sub_mul(load<Q>(dy_run + i) - load<Q>(mean_dy + j), centered, load<Q>(projection + j));
                     Q sum = g + load<Q>(rest + j);
                     if (any_extra) sum = sum * load<Q>(extra_scale + j);
                     return sum * load<Q>(scale + j);
                   });
    }
    if (access.streams) finish_streaming();
  }

 private:
  template <class C>
  struct Rounded {
    C mean_dy, mean, rest;
    Factors<C> projection, scale;
  };

  template <class T, class C, class A>
  static BATCHNORM_ALWAYS_INLINE Rounded<C> round(const GradientTerms<A>& terms) {
    const C mean_dy = coefficient<T>(static_cast<C>(terms.mean_dy)), mean = coefficient<T>(static_cast<C>(terms.mean));
    const A mean_rest = (terms.mean - A(mean)) + terms.mean_residual;
    const A rest = mean_rest * terms.projection - (terms.mean_dy - A(mean_dy));
    return {mean_dy, mean, coefficient<T>(static_cast<C>(rest)), factors<C>(coefficient<T>(terms.projection)),
            factors<C>(coefficient<T>(terms.scale))};
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_APPLY_GRADIENTS_HPP
