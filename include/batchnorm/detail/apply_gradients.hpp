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
    if (walks_columns(view)) {
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
    for (Index c = tile.channel_begin; c < tile.channel_end; ++c) {
      const Rounded<C> t = rounded<C>(terms[c - tile.channel_begin]);
      for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
        const Index row = (o * view.channels + c) * view.inner + tile.inner_begin;
        const T *const x_row = x + row, *const dy_row = dy + row;
        if (t.one_factor()) {
          transform<P>(dx + row, length, streamed, [&](auto type, Index i) BATCHNORM_INLINE_LAMBDA {
            using Q = typename decltype(type)::Pack;
            const Q centered = load<Q>(x_row + i) - Q::all(t.mean);
            const Q g = sub_mul(load<Q>(dy_row + i) - Q::all(t.mean_dy), centered, Q::all(t.projection.main));
            return (g + Q::all(t.rest)) * Q::all(t.scale.main);
          });
        } else {
          transform<P>(dx + row, length, streamed, [&](auto type, Index i) BATCHNORM_INLINE_LAMBDA {
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
    C means_dy[max_columns], means[max_columns], rests[max_columns];
    C projections[max_columns], extra_projections[max_columns], scales[max_columns], extra_scales[max_columns];
    bool one_factor = true;
    for (Index c = 0; c < tile.channels(); ++c) {
      const Rounded<C> t = rounded<C>(terms[c]);
      one_factor = one_factor && t.one_factor();
      columns.for_each_of_channel(c, [&](Index j) {
        means_dy[j] = t.mean_dy;
        means[j] = t.mean;
        rests[j] = t.rest;
        projections[j] = t.projection.main;
        extra_projections[j] = t.projection.extra;
        scales[j] = t.scale.main;
        extra_scales[j] = t.scale.extra;
      });
    }
    for (Index r = 0; r <= columns.rows; ++r) {
      const Index row = columns.begin + r * columns.stride, width = r < columns.rows ? columns.width : columns.rest;
      const T *const x_row = x + row, *const dy_row = dy + row;
      if (one_factor) {
        transform<P>(dx + row, width, streamed, [&](auto type, Index i) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          const Q centered = load<Q>(x_row + i) - load<Q>(means + i);
          const Q g = sub_mul(load<Q>(dy_row + i) - load<Q>(means_dy + i), centered, load<Q>(projections + i));
          return (g + load<Q>(rests + i)) * load<Q>(scales + i);
        });
      } else {
        transform<P>(dx + row, width, streamed, [&](auto type, Index i) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          const Q centered = (load<Q>(x_row + i) - load<Q>(means + i)) * load<Q>(extra_projections + i);
          const Q g = sub_mul(load<Q>(dy_row + i) - load<Q>(means_dy + i), centered, load<Q>(projections + i));
          return (g + load<Q>(rests + i)) * load<Q>(extra_scales + i) * load<Q>(scales + i);
        });
      }
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_APPLY_GRADIENTS_HPP
