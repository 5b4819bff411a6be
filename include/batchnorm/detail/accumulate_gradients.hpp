// The third primitive: per channel, over a tile, sum(dy) and sum(dy * (x - mean)).

#ifndef BATCHNORM_DETAIL_ACCUMULATE_GRADIENTS_HPP
#define BATCHNORM_DETAIL_ACCUMULATE_GRADIENTS_HPP

#include "batchnorm/detail/columns.hpp"
#include "batchnorm/detail/wide.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class A>
struct ChannelGradients {
  A dy, dy_centered;  // sum(dy), sum(dy * (x - mean))
};

template <class A>
BATCHNORM_ALWAYS_INLINE void merge_gradients(ChannelGradients<A>& total, const ChannelGradients<A>& more) {
  total.dy = total.dy + more.dy;
  total.dy_centered = total.dy_centered + more.dy_centered;
}

struct AccumulateGradients {
  /// Has the means of all channels as means[c] + residuals[c]; sets result[0 ... tile.channels()).
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, const T* dy, const A* means,
                                           const A* residuals, ChannelGradients<A>* result) {
    using P = Pack<A, lanes<T, A, Bytes>>;
    if (sums_by_columns(view)) {
      by_columns<P>(view, tile, x, dy, means, result);
    } else {
      by_rows<P>(view, tile, x, dy, means, result);
    }
    // The passes subtract the mean without its residual.
    for (Index c = 0; c < tile.channels(); ++c) {
      result[c].dy_centered = result[c].dy_centered - result[c].dy * residuals[tile.channel_begin + c];
    }
  }

 private:
  template <class P>
  struct RowSums {
    Wide<P> dy, products;
  };

  // The channels walked together by rows: their sums stay in the first-level cache.
  static constexpr Index row_channels = 64;

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_rows(const View& view, const Tile& tile, const T* x, const T* dy,
                                              const A* means, ChannelGradients<A>* result) {
    const Index n = tile.inner_end - tile.inner_begin;
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      RowSums<P> sums[row_channels];
      for (Index c = 0; c < channels; ++c) sums[c].dy = sums[c].products = Wide<P>::all(A(0));
      // Neighbouring rows lie one after another, if whole; `jump` is from the last to the next outer step's first.
      const bool whole = n == view.inner;
      const Index run = whole ? channels * n : n;
      const Index jump = whole ? view.channels * view.inner - run : view.inner - n;
      for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
        for (Index c = 0; c < channels; ++c) {
          const Index row = (o * view.channels + begin + c) * view.inner + tile.inner_begin;
          const Index left = whole ? run - c * n : n;
          add_row(x + row, dy + row, n, means[begin + c], sums[c], left, jump);
        }
      }
      for (Index c = 0; c < channels; ++c) {
        result[begin - tile.channel_begin + c] = {sum(sums[c].dy), sum(sums[c].products)};
      }
    }
  }

  // n is at least P::size. What will be read next lies `left` elements on and `jump` more.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, const T* dy, Index n, const A& mean, RowSums<P>& sums,
                                              Index left, Index jump) {
    constexpr Index ahead = prefetch_bytes / static_cast<Index>(sizeof(T));
    const P m = P::all(mean);
    const Wide<P> wide_m{m, m};
    Wide<P> total = sums.dy, products = sums.products;
    Index i = 0;
    for (; i + Wide<P>::size <= n; i += Wide<P>::size) {
      const Wide<P> d = load_wide<P>(x + i) - wide_m, g = load_wide<P>(dy + i);
      const Index next = i + ahead + (i + ahead < left ? 0 : jump);
      detail::prefetch(x + next);
      detail::prefetch(dy + next);
      total = total + g;
      products = mul_add(g, d, products);
    }
    if (i + P::size <= n) {
      const P d = load<P>(x + i) - m, g = load<P>(dy + i);
      total.a = total.a + g;
      products.a = mul_add(g, d, products.a);
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      const P d = load<P>(x + n - P::size) - m, g = without_first(load<P>(dy + n - P::size), P::size - (n - i));
      total.b = total.b + g;
      products.b = mul_add(g, d, products.b);
    }
    sums.dy = total;
    sums.products = products;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_columns(const View& view, const Tile& tile, const T* x, const T* dy,
                                                 const A* means, ChannelGradients<A>* result) {
    const Columns columns(view, tile);
    A centers[max_columns], sums[max_columns], products[max_columns];
    columns.for_each_column([&](Index c, Index j)
                                BATCHNORM_INLINE_LAMBDA { centers[j] = means[tile.channel_begin + c]; });
    for (Index j = 0; j < columns.width; ++j) sums[j] = products[j] = A(0);
    Index r = 0, at = columns.begin;
    for (; r + 4 <= columns.rows; r += 4, at += 4 * columns.stride) {
      const Index ahead = columns.prefetch_distance(static_cast<Index>(sizeof(T)));
      add_rows<4, P>(x + at, dy + at, columns.stride, columns.width, ahead, centers, sums, products);
    }
    for (; r <= columns.rows; ++r, at += columns.stride) {
      const Index width = r < columns.rows ? columns.width : columns.rest;
      add_rows<1, P>(x + at, dy + at, 0, width, 0, centers, sums, products);
    }
    for (Index c = 0; c < tile.channels(); ++c) result[c] = {A(0), A(0)};
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      merge_gradients(result[c], ChannelGradients<A>{sums[j], products[j]});
    });
  }

  // Adds so many rows at once that loading and storing the sums costs little, and rounds them less often.
  template <int Rows, class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_rows(const T* x, const T* dy, Index stride, Index width, Index ahead,
                                               const A* centers, A* sums, A* products) {
    constexpr Index N = P::size;
    Index j = 0;
    for (; j + N <= width; j += N) {
      add_column<Rows, P>(x + j, dy + j, stride, 0, ahead, centers + j, sums + j, products + j);
    }
    if (j == width) return;
    if (width >= N) {
      const Index last = width - N;
      add_column<Rows, P>(x + last, dy + last, stride, j - last, ahead, centers + last, sums + last, products + last);
    } else {
      for (; j < width; ++j) {
        add_column<Rows, Pack<A, 1>>(x + j, dy + j, stride, 0, ahead, centers + j, sums + j, products + j);
      }
    }
  }

  template <int Rows, class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_column(const T* x, const T* dy, Index stride, Index skip, Index ahead,
                                                 const A* centers, A* sums, A* products) {
    const P center = load<P>(centers);
    P sum = P::all(A(0)), product = sum;
    BATCHNORM_UNROLL
    for (int r = 0; r < Rows; ++r, x += stride, dy += stride) {
      P g = load<P>(dy);
      detail::prefetch(x + ahead);
      detail::prefetch(dy + ahead);
      if (skip != 0) g = without_first(g, skip);
      sum = sum + g;
      product = mul_add(g, load<P>(x) - center, product);
    }
    store(sums, load<P>(sums) + sum);
    store(products, load<P>(products) + product);
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ACCUMULATE_GRADIENTS_HPP
