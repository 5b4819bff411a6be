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
                                           const T* x, const T* dy, T* dx, bool streamed) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    if (writes_by_columns(view)) {
      by_columns<P>(view, tile, terms, x, dy, dx, streamed);
    } else {
      by_rows<P>(view, tile, terms, x, dy, dx, streamed);
    }
    if (streamed) finish_streaming();
  }

 private:
  template <class C>
  struct Rounded {
    C mean_dy, mean, rest;
    Factors<C> projection, scale;

    bool one_factor() const { return projection.extra == C(1) && scale.extra == C(1); }
  };

  template <class C, class A>
  static BATCHNORM_ALWAYS_INLINE Rounded<C> rounded(const GradientTerms<A>& terms) {
    const C mean_dy = static_cast<C>(terms.mean_dy), mean = static_cast<C>(terms.mean);
    const A mean_rest = (terms.mean - A(mean)) + terms.mean_residual;
    const A rest = mean_rest * terms.projection - (terms.mean_dy - A(mean_dy));
    return {mean_dy, mean, static_cast<C>(rest), factors<C>(terms.projection), factors<C>(terms.scale)};
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_rows(const View& view, const Tile& tile, const GradientTerms<A>* terms,
                                              const T* x, const T* dy, T* dx, bool streamed) {
    using C = typename P::Scalar;
    const Index length = tile.inner_end - tile.inner_begin;
    Rounded<C> all_terms[max_columns];
    for (Index c = 0; c < tile.channels(); ++c) all_terms[c] = rounded<C>(terms[c]);
    for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
      for (Index c = tile.channel_begin; c < tile.channel_end; ++c) {
        const Rounded<C> t = all_terms[c - tile.channel_begin];
        const Index row = (o * view.channels + c) * view.inner + tile.inner_begin;
        const T *const x_row = x + row, *const dy_row = dy + row;
        if (t.one_factor()) {
          transform<P>(dx + row, length, length, streamed, [&](auto type, Index i, Index) BATCHNORM_INLINE_LAMBDA {
            using Q = typename decltype(type)::Pack;
            const Q centered = load<Q>(x_row + i) - Q::all(t.mean);
            const Q g = sub_mul(load<Q>(dy_row + i) - Q::all(t.mean_dy), centered, Q::all(t.projection.main));
            return (g + Q::all(t.rest)) * Q::all(t.scale.main);
          });
        } else {
          transform<P>(dx + row, length, length, streamed, [&](auto type, Index i, Index) BATCHNORM_INLINE_LAMBDA {
            using Q = typename decltype(type)::Pack;
            const Q centered = (load<Q>(x_row + i) - Q::all(t.mean)) * Q::all(t.projection.extra);
            const Q g = sub_mul(load<Q>(dy_row + i) - Q::all(t.mean_dy), centered, Q::all(t.projection.main));
            return (g + Q::all(t.rest)) * Q::all(t.scale.extra) * Q::all(t.scale.main);
          });
        }
      }
    }
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_columns(const View& view, const Tile& tile, const GradientTerms<A>* terms,
                                                 const T* x, const T* dy, T* dx, bool streamed) {
    using C = typename P::Scalar;
    const Columns columns(view, tile);
    constexpr Index size = max_columns + P::size;  // see Normalize
    C means_dy[size], means[size], rests[size];
    C projections[size], extra_projections[size], scales[size], extra_scales[size];
    bool one_factor = true;
    for (Index c = 0; c < tile.channels(); ++c) {
      const Rounded<C> t = rounded<C>(terms[c]);
      one_factor = one_factor && t.one_factor();
      columns.for_each_of_channel(c, [&](Index j) BATCHNORM_INLINE_LAMBDA {
        means_dy[j] = t.mean_dy;
        means[j] = t.mean;
        rests[j] = t.rest;
        projections[j] = t.projection.main;
        extra_projections[j] = t.projection.extra;
        scales[j] = t.scale.main;
        extra_scales[j] = t.scale.extra;
      });
    }
    columns.repeat_first(P::size, means_dy, means, rests, projections, extra_projections, scales, extra_scales);
    columns.for_each_row([&](Index row, Index n, Index period) BATCHNORM_INLINE_LAMBDA {
      const T *const x_row = x + row, *const dy_row = dy + row;
      if (one_factor) {
        transform<P>(dx + row, n, period, streamed, [&](auto type, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          const Q centered = load<Q>(x_row + i) - load<Q>(means + j);
          const Q g = sub_mul(load<Q>(dy_row + i) - load<Q>(means_dy + j), centered, load<Q>(projections + j));
          return (g + load<Q>(rests + j)) * load<Q>(scales + j);
        });
      } else {
        transform<P>(dx + row, n, period, streamed, [&](auto type, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          const Q centered = (load<Q>(x_row + i) - load<Q>(means + j)) * load<Q>(extra_projections + j);
          const Q g = sub_mul(load<Q>(dy_row + i) - load<Q>(means_dy + j), centered, load<Q>(projections + j));
          return (g + load<Q>(rests + j)) * load<Q>(extra_scales + j) * load<Q>(scales + j);
        });
      }
    });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_APPLY_GRADIENTS_HPP
