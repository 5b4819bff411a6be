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

struct AccumulateGradients {
  /// Has the means of all channels, less what is too small for an A, and whether they are x's own, which of 16-bit
  /// numbers is not asked; sets the sums of the tile's channels. x and dy are the whole tensors.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, const T* dy, const A* means,
                                           bool own_means, const Prefetches& prefetches,
                                           const GradientSumArrays<A>& result) {
    using P = KernelPack<T, A, Bytes>;
    for (Index c = 0; c < tile.channels(); ++c) {
      result.dy_pivot()[c] =
          own_means && has_dy_pivot<T, A> ? convert<A>(dy[(tile.channel_begin + c) * view.inner]) : A(0);
    }
    if (by_columns(view)) {
      sum_by_columns<P>(view, tile, x, dy, means, prefetches, result);
    } else {
      sum_by_rows<P>(view, tile, x, dy, means, prefetches, result);
    }
  }

 private:
  template <class T, class A>
  static constexpr bool has_dy_pivot = std::is_same_v<T, A>;

  // The channels walked together by rows: their sums stay in the first-level cache.
  static constexpr Index row_channels = 64;
  // Values of a channel that are added up by rows before the next are begun: the rounding errors of long sums of like
  // values grow with their number.
  static constexpr Index longest = 2048;
  // Rows walked side by side by columns, which stay in the first-level cache until their lines are used up.
  static constexpr Index column_rows = 4;

  template <class P>
  struct RowSums {
    PackPair<P> dy, products, x;
  };

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_rows(const View& view, const Tile& tile, const T* x, const T* dy,
                                                  const A* means, const Prefetches& prefetches,
                                                  const GradientSumArrays<A>& result) {
    const Index n = tile.inner_end - tile.inner_begin;
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      const GradientSumArrays<A> sums = from_channel(result, begin - tile.channel_begin);
      RowSums<P> rows[row_channels];
      for (Index c = 0; c < channels; ++c) {
        rows[c].dy = rows[c].products = rows[c].x = PackPair<P>::all(A(0));
        sums.dy()[c] = sums.products()[c] = sums.x()[c] = A(0);
      }
      const auto finish = [&](Index c) BATCHNORM_INLINE_LAMBDA {
        sums.dy()[c] = sums.dy()[c] + sum(rows[c].dy);
        sums.products()[c] = sums.products()[c] + sum(rows[c].products);
        sums.x()[c] = sums.x()[c] + sum(rows[c].x);
        rows[c].dy = rows[c].products = rows[c].x = PackPair<P>::all(A(0));
      };
      // Neighbouring rows lie one after another, if whole; after the last follows the next outer step's first.
      const bool whole = n == view.inner;
      const Index length = whole ? channels * n : n, stride = whole ? view.outer_stride() : view.inner;
      const Lookahead x_lookahead = Lookahead::along(prefetches.x, length, stride);
      const Lookahead dy_lookahead = Lookahead::along(prefetches.dy, length, stride);
      const Index rows_at_once = std::max<Index>(1, longest / n);
      for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
        const bool last = o + 1 == tile.outer_end || (o + 1 - tile.outer_begin) % rows_at_once == 0;
        for (Index c = 0; c < channels; ++c) {
          const Index row = view.offset(o, begin + c, tile.inner_begin), walked = whole ? c * n : 0;
          for (Index i = 0; i < n; i += longest) {
            add_row(x + row + i, dy + row + i, (std::min)(longest, n - i), means[begin + c], sums.dy_pivot()[c],
                    rows[c], x_lookahead.after(walked + i), dy_lookahead.after(walked + i));
            if (last || n > longest) finish(c);
          }
        }
      }
    }
  }

  // What is read before x and dy, where n is less than P::size, is of the same row.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, const T* dy, Index n, const A& mean, const A& dy_pivot,
                                              RowSums<P>& sums, const Lookahead& x_lookahead,
                                              const Lookahead& dy_lookahead) {
    const P m = P::all(mean), k = P::all(dy_pivot);
    const PackPair<P> pair_m{m, m}, pair_k{k, k};
    PackPair<P> total = sums.dy, products = sums.products, total_x = sums.x;
    Index i = 0;
    for (; i + PackPair<P>::size <= n; i += PackPair<P>::size) {
      const PackPair<P> d = load_pair<P>(x + i) - pair_m;
      PackPair<P> g = load_pair<P>(dy + i);
      x_lookahead.after(i).fetch(x + i);
      dy_lookahead.after(i).fetch(dy + i);
      total = total + g;
      if constexpr (has_dy_pivot<T, A>) g = g - pair_k;
      products = mul_add(g, d, products);
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
  static BATCHNORM_ALWAYS_INLINE void add_pack(const P& all_d, const T* dy, Index skip, const P& dy_pivot, P& total,
                                               P& products, P& total_x) {
    P d = all_d, g = load<P>(dy), centered = g;
    if constexpr (has_dy_pivot<T, typename P::Scalar>) centered = g - dy_pivot;
    if (skip != 0) {
      const P none = P::all(typename P::Scalar(0));
      d = blend(none, d, skip);
      g = blend(none, g, skip);
      centered = blend(none, centered, skip);
    }
    total = total + g;
    products = mul_add(centered, d, products);
    if constexpr (!is_16_bit<T>) total_x = total_x + d;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_columns(const View& view, const Tile& tile, const T* x, const T* dy,
                                                     const A* means, const Prefetches& prefetches,
                                                     const GradientSumArrays<A>& result) {
    const Columns columns(view, tile);
    A mean_memory[max_columns<A>], memory[GradientSumArrays<A>::count * max_columns<A>];
    if (columns.single()) return sum_columns<P>(columns, x, dy, means + tile.channel_begin, prefetches, result);
    const auto sums = quantities_in<GradientSumArrays<A>>(memory, max_columns<A>);
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      mean_memory[j] = means[tile.channel_begin + c];
      sums.dy_pivot()[j] = result.dy_pivot()[c];
    });
    sum_columns<P>(columns, x, dy, mean_memory, prefetches, sums);
    for (A* array : {result.dy(), result.products(), result.x()}) std::fill_n(array, columns.channels, A(0));
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      result.dy()[c] = result.dy()[c] + sums.dy()[j];
      result.products()[c] = result.products()[c] + sums.products()[j];
      result.x()[c] = result.x()[c] + sums.x()[j];
    });
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_columns(const Columns& columns, const T* x, const T* dy, const A* mean,
                                                  const Prefetches& prefetches, const GradientSumArrays<A>& sums) {
    const Index x_lookahead = columns.lookahead(prefetches.x), dy_lookahead = columns.lookahead(prefetches.dy);
    for (A* array : {sums.dy(), sums.products(), sums.x()}) std::fill_n(array, columns.width, A(0));
    columns.template for_each_pack_of_rows<P, 1>(
        0, columns.width, column_rows,
        [&](auto packs, Index r, Index rows, Index j, Index skip) BATCHNORM_INLINE_LAMBDA {
          using Q = typename decltype(packs)::Pack;
          const Q m = load<Q>(mean + j), k = load<Q>(sums.dy_pivot() + j);
          Q total = Q::all(A(0)), products = total, total_x = total;
          Index at = columns.begin + r * columns.stride + j;
          for (Index i = 0; i < rows; ++i, at += columns.stride) {
            if (x_lookahead != 0) detail::prefetch(x + at + x_lookahead);
            if (dy_lookahead != 0) detail::prefetch(dy + at + dy_lookahead);
            add_pack(load<Q>(x + at) - m, dy + at, skip, k, total, products, total_x);
          }
          store(sums.dy() + j, load<Q>(sums.dy() + j) + total);
          store(sums.products() + j, load<Q>(sums.products() + j) + products);
          if constexpr (!is_16_bit<T>) store(sums.x() + j, load<Q>(sums.x() + j) + total_x);
        });
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_GRADIENTS_HPP
