// The first primitive: per channel, the sums from which the mean and the sum of squared deviations follow.
//
// Sums are of deviations from a pivot, a value near the mean: that of a few of the channel's elements, so that no mean,
// however large, cancels digits. Data of 32 bits or fewer are summed in float for a few additions at a time, and those
// sums in double: the rounding errors of so few additions are below those of the data. What that cannot be trusted with
// is summed again in double: a channel of which float overflowed, or underflowed, or whose mean turned out to lie far
// from the values it was taken for.

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP

#include <algorithm>
#include <limits>

#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/simd/isa.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// S is the type of sums of a few values, A's or a narrower one.
template <class S>
struct AccumulateMoments {
  /// Sets the sums of the tile's channels. x is the whole tensor.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, const Prefetch& prefetch,
                                           const MomentSums<A>& result) {
    using P = KernelPack<T, S, Bytes>;
    set_pivots<P>(view, tile, x, result.pivot());
    if (by_columns(view)) {
      sum_by_columns<P>(view, tile, x, prefetch, result);
    } else {
      sum_by_rows<P>(view, tile, x, prefetch, result);
    }
  }

 private:
  // The channels walked together by rows: their sums stay in the first-level cache.
  static constexpr Index row_channels = 64;
  // Additions to one S, after which it is added to an A: few where those of a float must keep its digits.
  static constexpr Index additions = std::is_same_v<S, double> ? 128 : 16;
  // Rows of a channel that are read at once: of more, what comes next is not fetched in time.
  static constexpr Index most_rows = 8;
  // Rows walked side by side by columns, which stay in the first-level cache until their lines are used up.
  static constexpr Index column_rows = 16;

  // The mean of four of a channel's values, spread over all of it, in P's numbers: the same for all of its tiles.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void set_pivots(const View& view, const Tile& tile, const T* x, A* pivots) {
    const T* samples[4];
    for (Index i = 0; i < 4; ++i) {
      const Index outer = (2 * i + 1) * view.outer / 8, inner = (2 * (i ^ 2) + 1) * view.inner / 8;
      samples[i] = x + view.offset(outer, tile.channel_begin, inner);
    }
    const auto set = [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      const Q quarter = Q::all(typename Q::Scalar(0.25));  // of each, so that no sum overflows
      const auto sample = [&](int i) BATCHNORM_INLINE_LAMBDA { return load<Q>(samples[i] + c * view.inner); };
      const Q first = mul_add(sample(1), quarter, sample(0) * quarter);
      const Q second = mul_add(sample(3), quarter, sample(2) * quarter);
      store_to_accumulators(pivots + c, first + second);
    };
    if (view.inner == 1) {
      for_each_pack<P>(tile.channels(), set);
    } else {
      for_each_pack<typename P::One>(tile.channels(), set);
    }
  }

  // Whether sums in S of n values, about this pivot, have as many digits as the values.
  template <class A>
  static BATCHNORM_ALWAYS_INLINE bool is_sound(const A& sum, const A& squares, const A& n) {
    if constexpr (!std::is_same_v<S, A>) {
      constexpr A least = 0x1p-120, most = (std::numeric_limits<A>::max)();
      if (!(squares >= least * n && squares <= most)) return false;
    }
    return !(sum * sum > A(0.75) * squares * n);
  }

  template <class P>
  static BATCHNORM_ALWAYS_INLINE P zero() {
    return P::all(typename P::Scalar(0));
  }

  // As many accumulators as have room in a P.
  template <class P, class A>
  using AccumulatorPack = Pack<A, (sizeof(P) < sizeof(A) ? 1 : static_cast<int>(sizeof(P) / sizeof(A))), P::fused>;

  // Calls f(i, q) for the numbers of a pack, from the i-th on made accumulators.
  template <class A, class P, class F>
  static BATCHNORM_ALWAYS_INLINE void for_each_accumulator(const P& pack, const F& f) {
    using Q = AccumulatorPack<P, A>;
    typename P::Scalar lanes[P::size];
    store(lanes, pack);
    BATCHNORM_UNROLL
    for (int i = 0; i < P::size; i += Q::size) f(i, load<Q>(lanes + i));
  }

  template <class P, class A>
  static BATCHNORM_ALWAYS_INLINE void store_to_accumulators(A* to, const P& pack) {
    for_each_accumulator<A>(pack, [&](int i, const auto& q) BATCHNORM_INLINE_LAMBDA { store(to + i, q); });
  }

  // Adds sums to others, lane by lane.
  template <class P, class A>
  static BATCHNORM_ALWAYS_INLINE void add_to_accumulators(A* total, const P& more) {
    for_each_accumulator<A>(more, [&](int i, const auto& q) BATCHNORM_INLINE_LAMBDA {
      store(total + i, load<AccumulatorPack<P, A>>(total + i) + q);
    });
  }

  template <class P, class A>
  struct RowSums {
    A sum[P::size], squares[P::size];
  };

  // Goes along neighbouring channels before the next outer step, which keeps to long stretches of memory.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_rows(const View& view, const Tile& tile, const T* x,
                                                  const Prefetch& prefetch, const MomentSums<A>& result) {
    const Index n = tile.inner_end - tile.inner_begin, rows = tile.outer_end - tile.outer_begin;
    const A values = number<A>(rows * n);
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      const T* const first = x + view.offset(tile.outer_begin, begin, tile.inner_begin);
      const MomentSums<A> sums = from_channel(result, begin - tile.channel_begin);
      sum_rows<P>(view, first, n, rows, channels, prefetch, sums);
      for (Index c = 0; c < channels; ++c) {
        if (is_sound(sums.sum()[c], sums.squares()[c], values)) continue;
        Tile channel = tile;
        channel.channel_begin = begin + c;
        channel.channel_end = begin + c + 1;
        sum_rows_again(view, channel, x, from_channel(sums, c));
      }
    }
  }

  // The rows of some neighbouring channels, from x on, each of n elements.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_rows(const View& view, const T* x, Index n, Index rows, Index channels,
                                               const Prefetch& prefetch, const MomentSums<A>& result) {
    constexpr Index longest = 2 * P::size * additions;  // a part of a row that is summed in S
    RowSums<P, A> sums[row_channels];
    for (Index c = 0; c < channels; ++c) {
      for (int i = 0; i < P::size; ++i) sums[c].sum[i] = sums[c].squares[i] = A(0);
    }
    const Index rows_at_once = std::clamp<Index>(longest / (n + 2 * P::size), 1, most_rows);
    // Neighbouring rows lie one after another, if whole; after the last follows the next outer step's first.
    const Index inner = view.inner, stride = view.outer_stride();
    const bool whole = n == inner;
    const Lookahead lookahead = Lookahead::along(prefetch, whole ? channels * n : n, whole ? stride : inner);
    for (Index r = 0; r < rows; r += rows_at_once) {
      const Index end = (std::min)(rows, r + rows_at_once);
      for (Index c = 0; c < channels; ++c) {
        const P pivot = P::all(static_cast<typename P::Scalar>(result.pivot()[c]));
        for (Index i = 0; i < n; i += longest) {
          const Index length = (std::min)(longest, n - i);
          const T* row = x + r * stride + c * inner + i;
          PackPair<P> sum{zero<P>(), zero<P>()}, squares = sum;
          for (Index k = r; k < end; ++k, row += stride) {
            add_row<P>(row, length, pivot, sum, squares, lookahead.after(whole ? c * n + i : i));
          }
          add_to_accumulators(sums[c].sum, sum.a + sum.b);
          add_to_accumulators(sums[c].squares, squares.a + squares.b);
        }
      }
    }
    for (Index c = 0; c < channels; ++c) {
      result.sum()[c] = sum_of<P::size>(sums[c].sum);
      result.squares()[c] = sum_of<P::size>(sums[c].squares);
    }
  }

  // What is rare is compiled once, not for each instruction set.
  template <class T, class A>
  using PackAgain = KernelPack<T, A, baseline_bytes>;

  // Of one channel. The new pivot is an A: of a constant channel exactly its value, however small.
  template <class T, class A>
  static BATCHNORM_COLD void sum_rows_again(const View& view, const Tile& tile, const T* x,
                                            const MomentSums<A>& result) {
    if constexpr (std::is_same_v<S, A>) {
      *result.pivot() = *result.pivot() + *result.sum() / number<A>(tile.values_per_channel());
    } else {
      set_pivots<PackAgain<T, A>>(view, tile, x, result.pivot());
    }
    const T* const first = x + view.offset(tile.outer_begin, tile.channel_begin, tile.inner_begin);
    sum_rows<PackAgain<T, A>>(view, first, tile.inner_end - tile.inner_begin, tile.outer_end - tile.outer_begin, 1,
                              Prefetch{}, result);
  }

  // Of those channels of a tile that are not sound, a pack of columns at a time.
  template <class T, class A>
  static BATCHNORM_COLD void sum_columns_again(const View& view, const Tile& tile, const Columns& columns, const T* x,
                                               const MomentSums<A>& result) {
    using P = PackAgain<T, A>;
    const A n = number<A>(tile.values_per_channel());
    bool again[max_columns<A>], any[max_columns<A>];  // of a channel; of the pack that begins with a column
    for (Index c = 0; c < columns.channels; ++c) {
      again[c] = !is_sound(result.sum()[c], result.squares()[c], n);
      if (!again[c]) continue;
      const MomentSums<A> channel = from_channel(result, c);
      if constexpr (std::is_same_v<S, A>) {
        *channel.pivot() = *channel.pivot() + *channel.sum() / n;
      } else {
        Tile one = tile;
        one.channel_begin += c;
        one.channel_end = one.channel_begin + 1;
        set_pivots<typename P::One>(view, one, x, channel.pivot());
      }
      *channel.sum() = *channel.squares() = A(0);
    }
    std::fill_n(any, columns.width, false);
    columns.for_each_column([&](Index c, Index j) { any[j / P::size * P::size] |= again[c]; });
    A pivots[P::size], sums[P::size], squares[P::size];
    columns.for_each_column([&](Index, Index first) {
      if (first % P::size != 0 || !any[first]) return;
      const Index end = (std::min)(columns.width, first + P::size);
      const auto for_each = [&](const auto& f) {
        for (Index j = first; j < end; ++j) {
          const Index c = j % (columns.channels * columns.inner) / columns.inner;
          f(c, j - first);
        }
      };
      for_each([&](Index c, Index k) { pivots[k] = result.pivot()[c]; });
      sum_columns<P>(columns, x, first, end, Prefetch{}, pivots, sums, squares);
      for_each([&](Index c, Index k) {
        if (!again[c]) return;
        result.sum()[c] = result.sum()[c] + sums[k];
        result.squares()[c] = result.squares()[c] + squares[k];
      });
    });
  }

  // What is read before x, where n is less than P::size, is of the same row.
  template <class P, class T>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, Index n, const P& pivot, PackPair<P>& total,
                                              PackPair<P>& total_squares, const Lookahead& lookahead) {
    const PackPair<P> pivots{pivot, pivot};
    PackPair<P> sum = total, squares = total_squares;
    Index i = 0;
    constexpr Index line = std::max<Index>(PackPair<P>::size, 64 / static_cast<Index>(sizeof(T)));  // fetched once
    const auto add = [&](Index at) BATCHNORM_INLINE_LAMBDA {
      const PackPair<P> d = load_pair<P>(x + at) - pivots;
      sum = sum + d;
      squares = mul_add(d, d, squares);
    };
    for (; i + line <= n; i += line) {
      lookahead.after(i).fetch(x + i);
      BATCHNORM_UNROLL
      for (Index k = 0; k < line; k += PackPair<P>::size) add(i + k);
    }
    for (; i + PackPair<P>::size <= n; i += PackPair<P>::size) add(i);
    if (i + P::size <= n) {
      const P d = load<P>(x + i) - pivot;
      sum.a = sum.a + d;
      squares.a = mul_add(d, d, squares.a);
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      const P d = blend(zero<P>(), load<P>(x + n - P::size) - pivot, P::size - (n - i));
      sum.b = sum.b + d;
      squares.b = mul_add(d, d, squares.b);
    }
    total = sum;
    total_squares = squares;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_columns(const View& view, const Tile& tile, const T* x,
                                                     const Prefetch& prefetch, const MomentSums<A>& result) {
    const Columns columns(view, tile);
    S pivots[max_columns<A>];
    A memory[2 * max_columns<A>];
    A* const sums = columns.single() ? result.sum() : memory;
    A* const squares = columns.single() ? result.squares() : memory + max_columns<A>;
    if (columns.single()) {
      for_each_pack<AccumulatorPack<P, A>>(columns.channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
        store(pivots + c, load<typename decltype(type)::Pack>(result.pivot() + c));
      });
    } else {
      columns.for_each_column([&](Index c, Index j)
                                  BATCHNORM_INLINE_LAMBDA { pivots[j] = static_cast<S>(result.pivot()[c]); });
    }
    sum_columns<P>(columns, x, 0, columns.width, prefetch, pivots, sums, squares);
    if (!columns.single()) gather(columns, sums, squares, result);
    const A n = number<A>(tile.values_per_channel());
    bool all_sound = true;
    for (Index c = 0; c < columns.channels; ++c) all_sound &= is_sound(result.sum()[c], result.squares()[c], n);
    if (!all_sound) sum_columns_again(view, tile, columns, x, result);
  }

  // Adds up the columns of each channel, which have one pivot.
  template <class A>
  static BATCHNORM_ALWAYS_INLINE void gather(const Columns& columns, const A* sums, const A* squares,
                                             const MomentSums<A>& result) {
    std::fill_n(result.sum(), columns.channels, A(0));
    std::fill_n(result.squares(), columns.channels, A(0));
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      result.sum()[c] = result.sum()[c] + sums[j];
      result.squares()[c] = result.squares()[c] + squares[j];
    });
  }

  // The columns of [begin, end); pivots and sums are of these.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_columns(const Columns& columns, const T* x, Index begin, Index end,
                                                  const Prefetch& prefetch, const typename P::Scalar* pivots, A* sums,
                                                  A* squares) {
    // A cache line's, for each to be fetched once, but no more than there are registers for their sums.
    constexpr int packs_a_line = std::clamp<int>(64 / static_cast<int>(P::size * sizeof(T)), 1, 4);
    const Index lookahead = columns.lookahead(prefetch);
    std::fill_n(sums, end - begin, A(0));
    std::fill_n(squares, end - begin, A(0));
    columns.template for_each_pack_of_rows<P, packs_a_line>(
        begin, end, column_rows, [&](auto packs, Index r, Index rows, Index j, Index skip) BATCHNORM_INLINE_LAMBDA {
          using Group = decltype(packs);
          add_columns<typename Group::Pack, Group::count>(x + columns.begin + r * columns.stride + j, rows,
                                                          columns.stride, skip, lookahead, pivots + (j - begin),
                                                          sums + (j - begin), squares + (j - begin));
        });
  }

  // Adds some rows of the columns in K neighbouring packs, less the first `skip` of each.
  template <class P, int K, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_columns(const T* x, Index rows, Index stride, Index skip, Index lookahead,
                                                  const typename P::Scalar* pivots, A* sums, A* squares) {
    constexpr auto packs = static_cast<std::size_t>(K);
    P pivot[packs], sum[packs], square[packs];
    BATCHNORM_UNROLL
    for (int k = 0; k < K; ++k) {
      pivot[k] = load<P>(pivots + k * P::size);
      sum[k] = square[k] = zero<P>();
    }
    for (Index r = 0; r < rows; ++r, x += stride) {
      if (lookahead != 0) detail::prefetch(x + lookahead);
      BATCHNORM_UNROLL
      for (int k = 0; k < K; ++k) {
        P d = load<P>(x + k * P::size) - pivot[k];
        if (skip != 0) d = blend(zero<P>(), d, skip);
        sum[k] = sum[k] + d;
        square[k] = mul_add(d, d, square[k]);
      }
    }
    BATCHNORM_UNROLL
    for (int k = 0; k < K; ++k) {
      add_to_accumulators(sums + k * P::size, sum[k]);
      add_to_accumulators(squares + k * P::size, square[k]);
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
