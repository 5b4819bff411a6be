// The third primitive: per channel, over a tile, sum(dy) and sum(dy * (x - mean)).
//
// About the batch's own mean x - mean adds up to 0, so that what all of dy have in common contributes nothing; but it
// leaves errors, by as much as the mean is off, and by the rounding of larger products. So where the mean is the
// batch's own, sum(x - mean) is taken too, which tells how far it is off, and where sums are no wider than the data,
// the products are of dy less one of its values. (Not of 16-bit numbers, whose means, sums of two doubles, are
// exact enough.)

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP

#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Per channel, sum(dy), sum((dy - dy_center) * (x - mean)) and sum(x - mean).
template <class A>
struct ProductSums : PerChannel<A, 4> {
  A* dy_center() const { return this->arrays[0]; }
  A* dy() const { return this->arrays[1]; }
  A* products() const { return this->arrays[2]; }
  A* x() const { return this->arrays[3]; }
};

template <class A>
void merge_sums(const ProductSums<A>& total, const ProductSums<A>& more, Index channels) {
  for (Index c = 0; c < channels; ++c) {
    total.dy()[c] = total.dy()[c] + more.dy()[c];
    total.products()[c] = total.products()[c] + more.products()[c];
    total.x()[c] = total.x()[c] + more.x()[c];
  }
}

struct AccumulateGradients {
  /// Has the means of all channels, less what is too small for an A, and whether they are x's own, which of 16-bit
  /// numbers is not asked; sets the sums of the tile's channels. x and dy are the whole tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, const T* dy, const A* means,
                                           bool own_means, const Ahead& ahead, const ProductSums<A>& result) {
    using P = Pack<A, lanes<T, A, Bytes>>;
    for (Index c = 0; c < tile.channels(); ++c) {
      result.dy_center()[c] =
          own_means && is_centered<T, A> ? convert<A>(dy[(tile.channel_begin + c) * view.inner]) : A(0);
    }
    if (by_columns(view)) {
      sum_by_columns<P>(view, tile, x, dy, means, result);
    } else {
      sum_by_rows<P>(view, tile, x, dy, means, ahead, result);
    }
  }

 private:
  template <class T, class A>
  static constexpr bool is_centered = std::is_same_v<T, A>;

  // The channels walked together by rows: their sums stay in the first-level cache.
  static constexpr Index row_channels = 64;
  // Values of a channel that are added up by rows before the next are begun: the rounding errors of long sums of like
  // values grow with their number.
  static constexpr Index longest = 2048;
  // Rows walked side by side by columns, which stay in the first-level cache until their lines are used up.
  static constexpr Index column_rows = 4;

  template <class P>
  struct RowSums {
    Wide<P> dy, products, x;
  };

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_rows(const View& view, const Tile& tile, const T* x, const T* dy,
                                                  const A* means, const Ahead& next, const ProductSums<A>& result) {
    const Index n = tile.inner_end - tile.inner_begin;
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      const ProductSums<A> sums = from_channel(result, begin - tile.channel_begin);
      RowSums<P> rows[row_channels];
      for (Index c = 0; c < channels; ++c) {
        rows[c].dy = rows[c].products = rows[c].x = Wide<P>::all(A(0));
        sums.dy()[c] = sums.products()[c] = sums.x()[c] = A(0);
      }
      const auto finish = [&](Index c) BATCHNORM_INLINE_LAMBDA {
        sums.dy()[c] = sums.dy()[c] + sum(rows[c].dy);
        sums.products()[c] = sums.products()[c] + sum(rows[c].products);
        sums.x()[c] = sums.x()[c] + sum(rows[c].x);
        rows[c].dy = rows[c].products = rows[c].x = Wide<P>::all(A(0));
      };
      // Neighbouring rows lie one after another, if whole; after the last follows the next outer step's first.
      const bool whole = n == view.inner;
      const Index run = whole ? channels * n : n, step = whole ? view.channels * view.inner : view.inner;
      const RowAhead ahead =
          next.x != 0 ? RowAhead{next.x, run, 0} : RowAhead::along(fetch_ahead(view, sizeof(T)), run, step);
      const Index rows_at_once = std::max<Index>(1, longest / n);
      for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
        const bool last = o + 1 == tile.outer_end || (o + 1 - tile.outer_begin) % rows_at_once == 0;
        for (Index c = 0; c < channels; ++c) {
          const Index row = (o * view.channels + begin + c) * view.inner + tile.inner_begin;
          for (Index i = 0; i < n; i += longest) {
            add_row(x + row + i, dy + row + i, (std::min)(longest, n - i), means[begin + c], sums.dy_center()[c],
                    rows[c], ahead.after(whole ? c * n + i : i), next.x == 0);
            if (last || n > longest) finish(c);
          }
        }
      }
    }
  }

  // What is read before x and dy, where n is less than P::size, is of the same row.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, const T* dy, Index n, const A& mean, const A& dy_center,
                                              RowSums<P>& sums, const RowAhead& ahead, bool fetches_dy) {
    const P m = P::all(mean), k = P::all(dy_center);
    const Wide<P> wide_m{m, m}, wide_k{k, k};
    Wide<P> total = sums.dy, products = sums.products, total_x = sums.x;
    Index i = 0;
    for (; i + Wide<P>::size <= n; i += Wide<P>::size) {
      const Wide<P> d = load_wide<P>(x + i) - wide_m;
      Wide<P> g = load_wide<P>(dy + i);
      ahead.after(i).fetch(x + i);
      if (fetches_dy) ahead.after(i).fetch(dy + i);
      total = total + g;
      if constexpr (is_centered<T, A>) g = g - wide_k;
      products = add_product(products, g, d);
      if constexpr (!is_16_bit<T>) total_x = total_x + d;
    }
    if (i + P::size <= n) {
      add_pack(load<P>(x + i) - m, dy + i, 0, k, total.a, products.a, total_x.a);
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      const Index last = n - P::size;
      add_pack(load<P>(x + last) - m, dy + last, i - last, k, total.b, products.b, total_x.b);
    }
    sums = {total, products, total_x};
  }

  // Adds a pack without its first `skip`, which for columns are other channels'.
  template <class P, class T>
  static BATCHNORM_ALWAYS_INLINE void add_pack(const P& all_d, const T* dy, Index skip, const P& dy_center, P& total,
                                               P& products, P& total_x) {
    P d = all_d, g = load<P>(dy), centered = g;
    if constexpr (is_centered<T, typename P::Scalar>) centered = g - dy_center;
    if (skip != 0) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, skip);
      g = blend(none, g, skip);
      centered = blend(none, centered, skip);
    }
    total = total + g;
    products = add_product(products, centered, d);
    if constexpr (!is_16_bit<T>) total_x = total_x + d;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_columns(const View& view, const Tile& tile, const T* x, const T* dy,
                                                     const A* means, const ProductSums<A>& result) {
    const Columns columns(view, tile);
    const bool single = columns.width == tile.channels();  // a column's sums are its channel's
    A mean_memory[max_columns];
    TileQuantities<ProductSums<A>> memory;
    const ProductSums<A> sums = single ? result : memory.all();
    if (!single) {
      columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
        mean_memory[j] = means[tile.channel_begin + c];
        sums.dy_center()[j] = result.dy_center()[c];
      });
    }
    sum_columns<P>(view, columns, x, dy, single ? means + tile.channel_begin : mean_memory, sums);
    if (single) return;
    for (Index c = 0; c < tile.channels(); ++c) result.dy()[c] = result.products()[c] = result.x()[c] = A(0);
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      result.dy()[c] = result.dy()[c] + sums.dy()[j];
      result.products()[c] = result.products()[c] + sums.products()[j];
      result.x()[c] = result.x()[c] + sums.x()[j];
    });
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_columns(const View& view, const Columns& columns, const T* x, const T* dy,
                                                  const A* mean, const ProductSums<A>& sums) {
    constexpr Index N = P::size;
    const Index ahead = columns.ahead(view, sizeof(T));
    for (A* array : {sums.dy(), sums.products(), sums.x()}) std::fill_n(array, columns.width, A(0));
    for (Index r = 0;;) {
      const bool is_rest = r >= columns.rows;
      const Index rows = is_rest ? 1 : (std::min)(column_rows, columns.rows - r);
      const Index width = is_rest ? columns.rest : columns.width, row = columns.begin + r * columns.stride;
      const auto add = [&](auto type, Index j, Index skip) BATCHNORM_INLINE_LAMBDA {
        using Q = typename decltype(type)::Pack;
        const Q m = load<Q>(mean + j), k = load<Q>(sums.dy_center() + j);
        Q total = Q::all(A(0)), products = total, total_x = total;
        for (Index i = 0, at = row + j; i < rows; ++i, at += columns.stride) {
          if (ahead != 0) {
            detail::prefetch(x + at + ahead);
            detail::prefetch(dy + at + ahead);
          }
          add_pack(load<Q>(x + at) - m, dy + at, skip, k, total, products, total_x);
        }
        store(sums.dy() + j, load<Q>(sums.dy() + j) + total);
        store(sums.products() + j, load<Q>(sums.products() + j) + products);
        if constexpr (!is_16_bit<T>) store(sums.x() + j, load<Q>(sums.x() + j) + total_x);
      };
      Index j = 0;
      for (; j + N <= width; j += N) add(PackType<P>(), j, 0);
      if (j < width && width >= N) {
        add(PackType<P>(), width - N, j - (width - N));
      } else {
        for (; j < width; ++j) add(PackType<Pack<A, 1>>(), j, 0);
      }
      if (is_rest) return;
      r += rows;
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
