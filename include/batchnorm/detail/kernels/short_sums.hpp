// The loop of the two primitives that take sums: terms of every element about a pivot of its channel, added up a few at
// a time in a type that may be narrower than the accumulator.

#ifndef BATCHNORM_DETAIL_KERNELS_SHORT_SUMS_HPP
#define BATCHNORM_DETAIL_KERNELS_SHORT_SUMS_HPP

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>

#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/simd/isa.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Terms says what is summed:
///
///     tensors, sums, pivots  how many tensors are read, how many sums are taken of them, and how many numbers of each
///                            channel go into their terms
///     Pivots<P>              these numbers: Pivots<P>::of(f) asks f(k) for the k-th
///     Centered<P>            elements less their pivots; clear_first(n) makes the first n of them add nothing
///     centered(f, pivots)    makes them, and asks f(t) for a pack of tensor t
///     Sums<P>                zero(), add(centered), a + b; for_each(f) calls f(k, sum) for each sum
///     additions              to one short sum, by rows and where that is not a double
///     column_rows            the same by columns: rows walked side by side while their lines are cached
///     most_columns<A>        of a tile that is walked by columns
///     weighted               whether the last tensor is weights, whose channel stride may be 0
///
/// S is the type of short sums. The rounding errors of so few additions in it as here are below those of S's own data;
/// then the sums are added to accumulators.
template <class S, class Terms>
struct ShortSums {
  static constexpr std::size_t tensors = Terms::tensors, sums = Terms::sums, pivots_count = Terms::pivots;
  template <class P>
  using Sums = typename Terms::template Sums<P>;
  template <class P>
  using Pivots = typename Terms::template Pivots<P>;
  template <class P>
  using Centered = typename Terms::template Centered<P>;
  template <class A>
  static constexpr Index most_columns = Terms::template most_columns<A>;

  Terms terms;

  /// Sets the mean of four of a channel's values, spread over all of it, in S: the same for all of its
  /// tiles.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void set_pivots(const View& view, const Tile& tile, const Elements<const T>& x,
                                                 A* pivots) {
    const T* samples[4];
    for (Index i = 0; i < 4; ++i) {
      const Index outer = (2 * i + 1) * view.outer / 8, inner = (2 * (i ^ 2) + 1) * view.inner / 8;
      samples[i] = x.at(outer, tile.channel_begin, inner);
    }
    const auto set = [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      const Q quarter = Q::all(typename Q::Scalar(0.25));  // of each, so that no sum overflows
      const auto sample = [&](int i) BATCHNORM_INLINE_LAMBDA { return load<Q>(samples[i] + c * x.channel_stride); };
      const Q first = mul_add(sample(1), quarter, sample(0) * quarter);
      const Q second = mul_add(sample(3), quarter, sample(2) * quarter);
      const Q mean = first + second;
      for_each_accumulator<A>(mean, [&](int i, const auto& q) BATCHNORM_INLINE_LAMBDA { store(pivots + c + i, q); });
    };
    if (x.channel_stride == 1) {
      for_each_pack<P>(tile.channels(), set);
    } else {
      for_each_pack<typename P::One>(tile.channels(), set);
    }
  }

  /// Sets the sums of the tile's channels, by rows. x are the whole tensors; pivots and results begin with the tile's
  /// first channel.
  template <class P, class T, class A>
  BATCHNORM_ALWAYS_INLINE void by_rows(const View& view, const Tile& tile, const Elements<const T> (&x)[tensors],
                                       const Prefetch (&prefetches)[tensors], const A* const (&pivots)[pivots_count],
                                       A* const (&results)[sums]) const {
    constexpr Index longest = 2 * P::size * additions;  // a part of a row that is summed in S
    const Index n = tile.inner_end - tile.inner_begin, rows = tile.outer_end - tile.outer_begin;
    const Index rows_at_once = std::clamp<Index>(longest / (n + 2 * P::size), 1, most_rows);
    // Neighbouring rows of a tensor lie one after another, if whole; after the last follows the next outer step's
    // first. So the walk goes along some channels, whose sums stay in the first-level cache, before the next outer
    // step.
    bool whole = n == view.inner;
    for (std::size_t t = 0; t < tensors; ++t) whole = whole && x[t].has_whole_steps(view);
    for (Index begin = 0; begin < tile.channels(); begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channels() - begin);
      const T* first[tensors];
      Lookahead lookahead[tensors];
      for (std::size_t t = 0; t < tensors; ++t) {
        first[t] = x[t].at(tile.outer_begin, tile.channel_begin + begin, tile.inner_begin);
        lookahead[t] =
            Lookahead::along(prefetches[t], whole ? channels * n : n, whole ? x[t].outer_stride : x[t].channel_stride);
      }
      A lanes[static_cast<std::size_t>(row_channels)][sums][static_cast<std::size_t>(P::size)];
      std::fill_n(&lanes[0][0][0], channels * static_cast<Index>(sums) * P::size, A(0));
      for (Index r = 0; r < rows; r += rows_at_once) {
        const Index end = (std::min)(rows, r + rows_at_once);
        for (Index c = 0; c < channels; ++c) {
          const auto pivot = Pivots<P>::of([&](std::size_t k) BATCHNORM_INLINE_LAMBDA {
            return P::all(static_cast<typename P::Scalar>(pivots[k][begin + c]));
          });
          for (Index i = 0; i < n; i += longest) {
            const Index length = (std::min)(longest, n - i), walked = whole ? c * n + i : i;
            Sums<P> even = Sums<P>::zero(), odd = even;
            const T* at[tensors];
            for (std::size_t t = 0; t < tensors; ++t) {
              at[t] = first[t] + r * x[t].outer_stride + c * x[t].channel_stride + i;
            }
            for (Index k = r; k < end; ++k) {
              add_row<P>(at, length, pivot, even, odd, lookahead, walked);
              BATCHNORM_UNROLL
              for (std::size_t t = 0; t < tensors; ++t) at[t] += x[t].outer_stride;
            }
            (even + odd).for_each([&](std::size_t k, const P& sum) BATCHNORM_INLINE_LAMBDA {
              add_to_accumulators(lanes[c][k], sum);
            });
          }
        }
      }
      for (Index c = 0; c < channels; ++c) {
        for (std::size_t k = 0; k < sums; ++k) results[k][begin + c] = sum_of<P::size>(lanes[c][k]);
      }
    }
  }

  /// The same by columns.
  template <class P, class T, class A>
  BATCHNORM_ALWAYS_INLINE void by_columns(const View& view, const Tile& tile, const Elements<const T> (&x)[tensors],
                                          const Prefetch (&prefetches)[tensors], const A* const (&pivots)[pivots_count],
                                          A* const (&results)[sums]) const {
    const Columns columns(view, tile);
    S pivot_memory[pivots_count][static_cast<std::size_t>(most_columns<A>)];
    A sum_memory[sums][static_cast<std::size_t>(most_columns<A>)];
    const S* column_pivots[pivots_count];
    A* column_sums[sums];
    for (std::size_t k = 0; k < pivots_count; ++k) column_pivots[k] = pivot_memory[k];
    for (std::size_t k = 0; k < sums; ++k) column_sums[k] = columns.single() ? results[k] : sum_memory[k];
    if (columns.single()) {
      for (std::size_t k = 0; k < pivots_count; ++k) {
        for_each_pack<AccumulatorPack<P, A>>(columns.channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
          store(pivot_memory[k] + c, load<typename decltype(type)::Pack>(pivots[k] + c));
        });
      }
    } else {
      columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
        BATCHNORM_UNROLL
        for (std::size_t k = 0; k < pivots_count; ++k) pivot_memory[k][j] = static_cast<S>(pivots[k][c]);
      });
    }
    sum_columns<P>(view, tile, columns, x, 0, columns.width, prefetches, column_pivots, column_sums);
    if (columns.single()) return;
    for (std::size_t k = 0; k < sums; ++k) std::fill_n(results[k], columns.channels, A(0));
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      BATCHNORM_UNROLL
      for (std::size_t k = 0; k < sums; ++k) results[k][c] = results[k][c] + sum_memory[k][j];
    });
  }

  /// The same again for those channels c of which again[c], a pack of columns at a time.
  template <class P, class T, class A>
  BATCHNORM_COLD void by_columns_again(const View& view, const Tile& tile, const Elements<const T> (&x)[tensors],
                                       const bool* again, const A* const (&pivots)[pivots_count],
                                       A* const (&results)[sums]) const {
    const Columns columns(view, tile);
    bool any[static_cast<std::size_t>(most_columns<A>)];  // of the pack that begins with a column
    std::fill_n(any, columns.width, false);
    columns.for_each_column([&](Index c, Index j) { any[j / P::size * P::size] |= again[c]; });
    for (Index c = 0; c < columns.channels; ++c) {
      for (std::size_t k = 0; again[c] && k < sums; ++k) results[k][c] = A(0);
    }
    for (Index first = 0; first < columns.width; first += P::size) {
      if (!any[first]) continue;
      constexpr auto width = static_cast<std::size_t>(P::size);
      A pivot_memory[pivots_count][width], sum_memory[sums][width];
      const A* column_pivots[pivots_count];
      A* column_sums[sums];
      for (std::size_t k = 0; k < pivots_count; ++k) column_pivots[k] = pivot_memory[k];
      for (std::size_t k = 0; k < sums; ++k) column_sums[k] = sum_memory[k];
      const Index end = (std::min)(columns.width, first + P::size);
      const auto channel_of = [&](Index j) { return j % (columns.channels * columns.inner) / columns.inner; };
      for (Index j = first; j < end; ++j) {
        for (std::size_t k = 0; k < pivots_count; ++k) pivot_memory[k][j - first] = pivots[k][channel_of(j)];
      }
      const Prefetch nothing[tensors] = {};
      sum_columns<P>(view, tile, columns, x, first, end, nothing, column_pivots, column_sums);
      for (Index j = first; j < end; ++j) {
        const Index c = channel_of(j);
        for (std::size_t k = 0; again[c] && k < sums; ++k) results[k][c] = results[k][c] + sum_memory[k][j - first];
      }
    }
  }

 private:
  // The channels walked together by rows.
  static constexpr Index row_channels = 64;
  // Additions to one S, after which it is added to an A: few where those of a float must keep its digits.
  static constexpr Index additions = std::is_same_v<S, double> ? 128 : Terms::additions;
  // Rows of a channel that are read at once: of more, what comes next is not fetched in time.
  static constexpr Index most_rows = 8;

  // As many accumulators as have room in a P.
  template <class P, class A>
  using AccumulatorPack = Pack<A, (sizeof(P) < sizeof(A) ? 1 : static_cast<int>(sizeof(P) / sizeof(A))), P::fused>;

  // Calls f(i, q) for the numbers of a pack, from the i-th on made accumulators.
  template <class A, class P, class F>
  static BATCHNORM_ALWAYS_INLINE void for_each_accumulator(const P& pack, const F& f) {
    using Q = AccumulatorPack<P, A>;
    typename P::Scalar lanes[static_cast<std::size_t>(P::size)];
    store(lanes, pack);
    BATCHNORM_UNROLL
    for (int i = 0; i < P::size; i += Q::size) f(i, load<Q>(lanes + i));
  }

  // Adds sums to others, lane by lane.
  template <class P, class A>
  static BATCHNORM_ALWAYS_INLINE void add_to_accumulators(A* total, const P& more) {
    for_each_accumulator<A>(more, [&](int i, const auto& q) BATCHNORM_INLINE_LAMBDA {
      store(total + i, load<AccumulatorPack<P, A>>(total + i) + q);
    });
  }

  template <class P, class T>
  BATCHNORM_ALWAYS_INLINE Centered<P> centered(const T* const (&x)[tensors], Index i, const Pivots<P>& pivot) const {
    return terms.template centered<P>([&](std::size_t t) BATCHNORM_INLINE_LAMBDA { return load<P>(x[t] + i); }, pivot);
  }

  // Adds the n elements from x on, those in packs at even and odd places to sums of their own. What is read before
  // them, where n is less than P::size, is of the same row.
  template <class P, class T>
  BATCHNORM_ALWAYS_INLINE void add_row(const T* const (&x)[tensors], Index n, const Pivots<P>& pivot,
                                       Sums<P>& total_even, Sums<P>& total_odd, const Lookahead (&lookahead)[tensors],
                                       Index walked) const {
    Sums<P> even = total_even, odd = total_odd;
    const auto add_two = [&](Index i) BATCHNORM_INLINE_LAMBDA {
      PackPair<P> pairs[tensors];
      for (std::size_t t = 0; t < tensors; ++t) pairs[t] = load_pair<P>(x[t] + i);
      even.add(terms.template centered<P>([&](std::size_t t) BATCHNORM_INLINE_LAMBDA { return pairs[t].a; }, pivot));
      odd.add(terms.template centered<P>([&](std::size_t t) BATCHNORM_INLINE_LAMBDA { return pairs[t].b; }, pivot));
    };
    Index i = 0;
    constexpr Index line = std::max<Index>(2 * P::size, 64 / static_cast<Index>(sizeof(T)));  // fetched once
    for (; i + line <= n; i += line) {
      for (std::size_t t = 0; t < tensors; ++t) lookahead[t].after(walked + i).fetch(x[t] + i);
      BATCHNORM_UNROLL
      for (Index k = 0; k < line; k += 2 * P::size) add_two(i + k);
    }
    for (; i + 2 * P::size <= n; i += 2 * P::size) add_two(i);
    if (i + P::size <= n) {
      even.add(centered<P>(x, i, pivot));
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      Centered<P> last = centered<P>(x, n - P::size, pivot);
      last.clear_first(P::size - (n - i));
      odd.add(last);
    }
    total_even = even;
    total_odd = odd;
  }

  // Some rows of columns: where they begin in each tensor, and how far apart they are.
  template <class T>
  struct Rows {
    const T* first[tensors];
    Index stride[tensors];
    bool same_in_row;  // of weights that are one number for a row, of which `first` has a few packs alone
  };

  // Room for the rows of columns that are walked side by side.
  template <class T, class A>
  struct GatheredRows {
    static constexpr Index most = (std::max)(Terms::column_rows * narrow_stride, half_max_columns<A>);
    T values[tensors][static_cast<std::size_t>(most)];
    Rows<T> rows = {};
  };

  // The columns [begin, end); pivots and results are of these.
  template <class P, class T, class A>
  BATCHNORM_ALWAYS_INLINE void sum_columns(const View& view, const Tile& tile, const Columns& columns,
                                           const Elements<const T> (&x)[tensors], Index begin, Index end,
                                           const Prefetch (&prefetches)[tensors],
                                           const typename P::Scalar* const (&pivots)[pivots_count],
                                           A* const (&results)[sums]) const {
    // A cache line's, for each to be fetched once, but no more than there are registers for their sums.
    constexpr int packs_a_line = std::clamp<int>(64 / static_cast<int>(P::size * sizeof(T)), 1, Terms::most_packs);
    // Rows whose elements do not lie one after another are copied to where they do: the sums of a matrix's block have
    // the bits of those of a tensor.
    std::optional<GatheredRows<T, A>> gathered;
    Index lookahead[tensors];
    bool wide = false;
    for (std::size_t t = 0; t < tensors; ++t) {
      lookahead[t] = columns.lookahead(prefetches[t], columns.repeat * x[t].outer_stride);
      if (columns.lie_in(x[t], view)) continue;
      gathered.emplace();
      wide = wide || (view.step_width() >= narrow_stride && !is_same_in_row(columns, x[t], t));
    }
    // There is room for one wide row, or for several narrow ones: by the shape, not by the tile, which decides no bit.
    const Index rows_at_once = wide ? Index(1) : Index(Terms::column_rows);
    for (std::size_t k = 0; k < sums; ++k) std::fill_n(results[k], end - begin, A(0));
    columns.template for_each_pack_of_rows<P, packs_a_line>(
        begin, end, rows_at_once,
        [&](Index r, Index count, Index width) BATCHNORM_INLINE_LAMBDA {
          Rows<T> rows;
          BATCHNORM_UNROLL
          for (std::size_t t = 0; t < tensors; ++t) {
            rows.first[t] = x[t].at(tile.outer_begin + r * columns.repeat, tile.channel_begin, 0);
            rows.stride[t] = columns.repeat * x[t].outer_stride;
          }
          rows.same_in_row = false;
          if (gathered.has_value()) {
            gather(view, tile, columns, x, r, count, width, packs_a_line * P::size, *gathered);
            rows.same_in_row = gathered->rows.same_in_row;
            BATCHNORM_UNROLL
            for (std::size_t t = 0; t < tensors; ++t) {
              rows.first[t] = gathered->rows.first[t];
              rows.stride[t] = gathered->rows.stride[t];
            }
          }
          return rows;
        },
        [&](auto packs, const Rows<T>& rows, Index count, Index j, Index skip) BATCHNORM_INLINE_LAMBDA {
          using Group = decltype(packs);
          add_columns<typename Group::Pack, Group::count>(rows, j, count, skip, lookahead, pivots, results, j - begin);
        });
  }

  // Whether all columns of a row have the same weight.
  template <class T>
  static bool is_same_in_row(const Columns& columns, const Elements<const T>& elements, std::size_t t) {
    return Terms::weighted && t + 1 == tensors && elements.channel_stride == 0 && columns.inner == 1 &&
           columns.repeat == 1;
  }

  // Copies `count` rows of `width` elements, from the r-th on, of those tensors in which they have gaps; of weights
  // that are the same in a row, `line` elements.
  template <class T, class A>
  static BATCHNORM_COLD void gather(const View& view, const Tile& tile, const Columns& columns,
                                    const Elements<const T> (&x)[tensors], Index r, Index count, Index width,
                                    Index line, GatheredRows<T, A>& to) {
    to.rows.same_in_row = false;
    const Index steps = (count - 1) * columns.repeat + width / (columns.channels * columns.inner);
    for (std::size_t t = 0; t < tensors; ++t) {
      const T* const first = x[t].at(tile.outer_begin + r * columns.repeat, tile.channel_begin, 0);
      if (columns.lie_in(x[t], view)) {
        to.rows.first[t] = first;
        to.rows.stride[t] = columns.repeat * x[t].outer_stride;
        continue;
      }
      to.rows.first[t] = to.values[t];
      if (is_same_in_row(columns, x[t], t)) {
        for (Index k = 0; k < count; ++k) std::fill_n(to.values[t] + k * line, line, first[k * x[t].outer_stride]);
        to.rows.stride[t] = line;
        to.rows.same_in_row = true;
        continue;
      }
      eigen_assert(count * columns.width <= (GatheredRows<T, A>::most));
      gather_elements({first, x[t].outer_stride, x[t].channel_stride}, {steps, columns.channels, columns.inner},
                      to.values[t]);
      to.rows.stride[t] = columns.width;
    }
  }

  // Adds some rows of the columns in Count neighbouring packs, from the j-th column on, which is the `first` of those
  // at hand, less the first `skip` of each pack.
  template <class P, int Count, class T, class A>
  BATCHNORM_ALWAYS_INLINE void add_columns(const Rows<T>& rows, Index j, Index count, Index skip,
                                           const Index (&lookahead)[tensors],
                                           const typename P::Scalar* const (&pivots)[pivots_count],
                                           A* const (&results)[sums], Index first) const {
    Pivots<P> pivot[static_cast<std::size_t>(Count)];
    Sums<P> total[static_cast<std::size_t>(Count)];
    BATCHNORM_UNROLL
    for (int g = 0; g < Count; ++g) {
      pivot[g] = Pivots<P>::of([&](std::size_t k)
                                   BATCHNORM_INLINE_LAMBDA { return load<P>(pivots[k] + first + g * P::size); });
      total[g] = Sums<P>::zero();
    }
    const T* x[tensors];
    BATCHNORM_UNROLL
    for (std::size_t t = 0; t < tensors; ++t) x[t] = rows.first[t] + j;
    if constexpr (Terms::weighted) {
      if (rows.same_in_row) x[tensors - 1] = rows.first[tensors - 1];
    }
    for (Index r = 0; r < count; ++r) {
      BATCHNORM_UNROLL
      for (std::size_t t = 0; t < tensors; ++t) {
        if (lookahead[t] != 0) detail::prefetch(x[t] + lookahead[t]);
      }
      BATCHNORM_UNROLL
      for (int g = 0; g < Count; ++g) {
        Centered<P> values = centered<P>(x, g * P::size, pivot[g]);
        if (skip != 0) values.clear_first(skip);
        total[g].add(values);
      }
      BATCHNORM_UNROLL
      for (std::size_t t = 0; t < tensors; ++t) x[t] += rows.stride[t];
    }
    BATCHNORM_UNROLL
    for (int g = 0; g < Count; ++g) {
      total[g].for_each([&](std::size_t k, const P& sum)
                            BATCHNORM_INLINE_LAMBDA { add_to_accumulators(results[k] + first + g * P::size, sum); });
    }
  }
};

/// Whether sums of n values in S about a pivot have as many digits as the values: `sum` of their deviations and
/// `squares` of them squared. Not where S over- or underflowed, or where the pivot turned out to lie far from the
/// values: where the square of their mean deviation is more than three quarters of the mean square.
template <class S, class A>
BATCHNORM_ALWAYS_INLINE bool is_sound(const A& sum, const A& squares, const A& n) {
  if constexpr (!std::is_same_v<S, A>) {
    constexpr A least = 0x1p-120, most = (std::numeric_limits<A>::max)();
    if (!(squares >= least * n && squares <= most)) return false;
  }
  return !(sum * sum > A(0.75) * squares * n);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_SHORT_SUMS_HPP
