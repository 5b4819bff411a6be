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
                                           const T* x, T* y, bool streamed) {
    using C = compute_t<T>;
    using P = Pack<C, lanes<T, C, Bytes>>;
    if (writes_by_columns(view)) {
      by_columns<P>(view, tile, terms, x, y, streamed);
    } else {
      by_rows<P>(view, tile, terms, x, y, streamed);
    }
    if (streamed) finish_streaming();
  }

 private:
  template <class C>
  struct Rounded {
    C mean, shift;
    Factors<C> scale;
  };

  template <class C, class A>
  static BATCHNORM_ALWAYS_INLINE Rounded<C> rounded(const NormalizeTerms<A>& terms) {
    const C mean = static_cast<C>(terms.mean);
    const A rest = (terms.mean - A(mean)) + terms.mean_residual;
    return {mean, static_cast<C>(terms.shift - rest * terms.scale), factors<C>(terms.scale)};
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_rows(const View& view, const Tile& tile, const NormalizeTerms<A>* terms,
                                              const T* x, T* y, bool streamed) {
    using C = typename P::Scalar;
    const Index length = tile.inner_end - tile.inner_begin;
    Rounded<C> all_terms[max_columns];
    for (Index c = 0; c < tile.channels(); ++c) all_terms[c] = rounded<C>(terms[c]);
    for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
      for (Index c = tile.channel_begin; c < tile.channel_end; ++c) {
        const Rounded<C> term = all_terms[c - tile.channel_begin];
        const Index row = (o * view.channels + c) * view.inner + tile.inner_begin;
        const T* const from = x + row;
        if (term.scale.extra == C(1)) {
          transform<P>(y + row, length, length, streamed, [&](auto type, Index i, Index) BATCHNORM_INLINE_LAMBDA {
            using Q = typename decltype(type)::Pack;
            return mul_add(load<Q>(from + i) - Q::all(term.mean), Q::all(term.scale.main), Q::all(term.shift));
          });
        } else {
          transform<P>(y + row, length, length, streamed, [&](auto type, Index i, Index) BATCHNORM_INLINE_LAMBDA {
            using Q = typename decltype(type)::Pack;
            return mul_add((load<Q>(from + i) - Q::all(term.mean)) * Q::all(term.scale.extra), Q::all(term.scale.main),
                           Q::all(term.shift));
          });
        }
      }
    }
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_columns(const View& view, const Tile& tile, const NormalizeTerms<A>* terms,
                                                 const T* x, T* y, bool streamed) {
    using C = typename P::Scalar;
    const Columns columns(view, tile);
    // The first columns again after the last, for packs that begin in one row and end in the next.
    constexpr Index size = max_columns + P::size;
    C means[size], scales[size], extra_scales[size], shifts[size];
    bool two_factors = false;
    for (Index c = 0; c < tile.channels(); ++c) {
      const Rounded<C> term = rounded<C>(terms[c]);
      two_factors = two_factors || !(term.scale.extra == C(1));
      columns.for_each_of_channel(c, [&](Index j) BATCHNORM_INLINE_LAMBDA {
        means[j] = term.mean;
        scales[j] = term.scale.main;
        extra_scales[j] = term.scale.extra;
        shifts[j] = term.shift;
      });
    }
    columns.repeat_first(P::size, means, scales, extra_scales, shifts);
    columns.for_each_row([&](Index row, Index n, Index period) BATCHNORM_INLINE_LAMBDA {
      const T* const from = x + row;
      if (!two_factors) {
        transform<P>(y + row, n, period, streamed, [&](auto type, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          return mul_add(load<Q>(from + i) - load<Q>(means + j), load<Q>(scales + j), load<Q>(shifts + j));
        });
      } else {
        transform<P>(y + row, n, period, streamed, [&](auto type, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(type)::Pack;
          return mul_add((load<Q>(from + i) - load<Q>(means + j)) * load<Q>(extra_scales + j), load<Q>(scales + j),
                         load<Q>(shifts + j));
        });
      }
    });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_NORMALIZE_HPP
