// The first primitive: per channel, the sums from which the mean and the sum of squared deviations follow.
//
// Sums are of deviations from a value near the mean, that of a few of the channel's elements, so that no mean, however
// large, cancels digits. Data of 32 bits or fewer are summed in float for a few additions at a time, and those sums in
// double: the rounding errors of so few additions are below those of the data. What that cannot be trusted with is
// summed again in double: a channel of which float overflowed, or underflowed, or whose mean turned out to lie far from
// the values it was taken for.

#ifndef BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
#define BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP

#include <algorithm>
#include <limits>

#include "batchnorm/detail/algebra/moments.hpp"
#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/simd/isa.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// S is the type of sums of a few values, A's or a narrower one.
template <class S>
struct AccumulateMoments {
  /// Sets the sums of the tile's channels. x is the whole tensor.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x,
                                           const MomentSums<A>& result) {
    using P = Pack<S, lanes<T, S, Bytes>>;
    set_centers<P>(view, tile, x, result.center());
    if (by_columns(view)) {
      sum_by_columns<P>(view, tile, x, result);
    } else {
      sum_by_rows<P>(view, tile, x, result);
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
  static BATCHNORM_ALWAYS_INLINE void set_centers(const View& view, const Tile& tile, const T* x, A* centers) {
    const T* samples[4];
    for (Index i = 0; i < 4; ++i) {
      const Index outer = (2 * i + 1) * view.outer / 8, inner = (2 * (i ^ 2) + 1) * view.inner / 8;
      samples[i] = x + (outer * view.channels + tile.channel_begin) * view.inner + inner;
    }
    const auto set = [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      const Q quarter = Q::all(typename Q::Scalar(0.25));  // of each, so that no sum overflows
      const auto sample = [&](int i) BATCHNORM_INLINE_LAMBDA { return load<Q>(samples[i] + c * view.inner) * quarter; };
      store_wider(centers + c, (sample(0) + sample(1)) + (sample(2) + sample(3)));
    };
    if (view.inner == 1) {
      for_each_pack<P>(tile.channels(), set);
    } else {
      for_each_pack<Pack<typename P::Scalar, 1>>(tile.channels(), set);
    }
  }

  // Whether sums in S of n values, about this center, have as many digits as the values.
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

  // As many wider numbers as have room in a P.
  template <class P, class A>
  using WiderPack = Pack<A, (sizeof(P) < sizeof(A) ? 1 : static_cast<int>(sizeof(P) / sizeof(A)))>;

  // Calls f(i, q) for the numbers of a pack, from the i-th on made wider ones.
  template <class A, class P, class F>
  static BATCHNORM_ALWAYS_INLINE void for_each_wider(const P& pack, const F& f) {
    using Q = WiderPack<P, A>;
    typename P::Scalar lanes[P::size];
    store(lanes, pack);
    BATCHNORM_UNROLL
    for (int i = 0; i < P::size; i += Q::size) f(i, load<Q>(lanes + i));
  }

  template <class P, class A>
  static BATCHNORM_ALWAYS_INLINE void store_wider(A* to, const P& pack) {
    for_each_wider<A>(pack, [&](int i, const auto& wider) BATCHNORM_INLINE_LAMBDA { store(to + i, wider); });
  }

  // Adds sums to others, lane by lane.
  template <class P, class A>
  static BATCHNORM_ALWAYS_INLINE void add_wider(A* total, const P& more) {
    for_each_wider<A>(more, [&](int i, const auto& wider) BATCHNORM_INLINE_LAMBDA {
      using Q = WiderPack<P, A>;
      store(total + i, load<Q>(total + i) + wider);
    });
  }

  template <class P, class A>
  struct RowSums {
    A sum[P::size], squares[P::size];
  };

  // Goes along neighbouring channels before the next outer step, which keeps to long runs through memory.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_rows(const View& view, const Tile& tile, const T* x,
                                                  const MomentSums<A>& result) {
    const Index n = tile.inner_end - tile.inner_begin, rows = tile.outer_end - tile.outer_begin;
    const A values = number<A>(rows * n);
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      const T* const first = x + (tile.outer_begin * view.channels + begin) * view.inner + tile.inner_begin;
      const MomentSums<A> sums = from_channel(result, begin - tile.channel_begin);
      sum_rows<P>(view, first, n, rows, channels, sums);
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
                                               const MomentSums<A>& result) {
    constexpr Index longest = 2 * P::size * additions;  // a part of a row that is summed in S
    RowSums<P, A> sums[row_channels];
    for (Index c = 0; c < channels; ++c) {
      for (int i = 0; i < P::size; ++i) sums[c].sum[i] = sums[c].squares[i] = A(0);
    }
    const Index rows_at_once = std::clamp<Index>(longest / (n + 2 * P::size), 1, most_rows);
    // Neighbouring rows lie one after another, if whole; after the last follows the next outer step's first.
    const Index inner = view.inner, stride = view.channels * inner, run = n == inner ? channels * n : n;
    const RowAhead ahead = RowAhead::along(fetch_ahead(view, sizeof(T)), run, n == inner ? stride : inner);
    for (Index r = 0; r < rows; r += rows_at_once) {
      const Index end = (std::min)(rows, r + rows_at_once);
      for (Index c = 0; c < channels; ++c) {
        const P center = P::all(static_cast<typename P::Scalar>(result.center()[c]));
        for (Index i = 0; i < n; i += longest) {
          const Index length = (std::min)(longest, n - i);
          const T* row = x + r * stride + c * inner + i;
          Wide<P> sum{zero<P>(), zero<P>()}, squares = sum;
          for (Index k = r; k < end; ++k, row += stride) {
            add_row<P>(row, length, center, sum, squares, ahead.after(n == inner ? c * n + i : i));
          }
          add_wider(sums[c].sum, sum.a + sum.b);
          add_wider(sums[c].squares, squares.a + squares.b);
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
  using PackAgain = Pack<A, lanes<T, A, baseline_bytes>>;

  // Of one channel. The new center is an A: of a constant channel exactly its value, however small.
  template <class T, class A>
  static BATCHNORM_NOINLINE void sum_rows_again(const View& view, const Tile& tile, const T* x,
                                                const MomentSums<A>& result) {
    if constexpr (std::is_same_v<S, A>) {
      *result.center() = *result.center() + *result.sum() / number<A>(tile.values_per_channel());
    } else {
      set_centers<PackAgain<T, A>>(view, tile, x, result.center());
    }
    const Index first = (tile.outer_begin * view.channels + tile.channel_begin) * view.inner + tile.inner_begin;
    sum_rows<PackAgain<T, A>>(view, x + first, tile.inner_end - tile.inner_begin, tile.outer_end - tile.outer_begin, 1,
                              result);
  }

  // Of those channels of a tile that are not sound.
  template <class T, class A>
  static BATCHNORM_NOINLINE void sum_columns_again(const View& view, const Tile& tile, const Columns& columns,
                                                   const T* x, const MomentSums<A>& result) {
    using P = PackAgain<T, A>;
    const Index channels = tile.channels();
    const A n = number<A>(tile.values_per_channel());
    bool sound[max_columns], again[max_columns];
    A new_centers[max_columns];
    if constexpr (!std::is_same_v<S, A>) set_centers<P>(view, tile, x, new_centers);
    for (Index c = 0; c < channels; ++c) {
      sound[c] = is_sound(result.sum()[c], result.squares()[c], n);
      if (sound[c]) continue;
      if constexpr (std::is_same_v<S, A>) new_centers[c] = result.center()[c] + result.sum()[c] / n;
      result.center()[c] = new_centers[c];
    }
    A centers[max_columns], sums[max_columns], squares[max_columns];
    columns.for_each_column([&](Index c, Index j) {
      again[j] = !sound[c];
      centers[j] = result.center()[c];
    });
    for (Index j = 0; j < columns.width; j += P::size) {
      const Index end = (std::min)(columns.width, j + P::size);
      if (std::find(again + j, again + end, true) == again + end) continue;
      sum_columns<P>(view, columns, x, j, end, centers, sums, squares);
    }
    for (Index c = 0; c < channels; ++c) {
      if (!sound[c]) result.sum()[c] = result.squares()[c] = A(0);
    }
    columns.for_each_column([&](Index c, Index j) {
      if (sound[c]) return;
      result.sum()[c] = result.sum()[c] + sums[j];
      result.squares()[c] = result.squares()[c] + squares[j];
    });
  }

  // What is read before x, where n is less than P::size, is of the same row.
  template <class P, class T>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, Index n, const P& center, Wide<P>& total,
                                              Wide<P>& total_squares, const RowAhead& ahead) {
    const Wide<P> centers{center, center};
    Wide<P> sum = total, squares = total_squares;
    Index i = 0;
    constexpr Index line = std::max<Index>(Wide<P>::size, 64 / static_cast<Index>(sizeof(T)));  // fetched once
    const auto add = [&](Index at) BATCHNORM_INLINE_LAMBDA {
      const Wide<P> d = load_wide<P>(x + at) - centers;
      sum = sum + d;
      squares = add_product(squares, d, d);
    };
    for (; i + line <= n; i += line) {
      ahead.after(i).fetch(x + i);
      BATCHNORM_UNROLL
      for (Index k = 0; k < line; k += Wide<P>::size) add(i + k);
    }
    for (; i + Wide<P>::size <= n; i += Wide<P>::size) add(i);
    if (i + P::size <= n) {
      const P d = load<P>(x + i) - center;
      sum.a = sum.a + d;
      squares.a = add_product(squares.a, d, d);
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      const P d = blend(zero<P>(), load<P>(x + n - P::size) - center, P::size - (n - i));
      sum.b = sum.b + d;
      squares.b = add_product(squares.b, d, d);
    }
    total = sum;
    total_squares = squares;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_by_columns(const View& view, const Tile& tile, const T* x,
                                                     const MomentSums<A>& result) {
    const Columns columns(view, tile);
    const Index channels = tile.channels();
    const bool single = columns.width == channels;  // a column's sums are its channel's
    S centers[max_columns];
    A memory[2 * max_columns];
    A *const sums = single ? result.sum() : memory, *const squares = single ? result.squares() : memory + max_columns;
    if (single) {
      for_each_pack<WiderPack<P, A>>(channels, [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
        store(centers + c, load<typename decltype(type)::Pack>(result.center() + c));
      });
    } else {
      columns.for_each_column([&](Index c, Index j)
                                  BATCHNORM_INLINE_LAMBDA { centers[j] = static_cast<S>(result.center()[c]); });
    }
    sum_columns<P>(view, columns, x, 0, columns.width, centers, sums, squares);
    if (!single) gather(columns, sums, squares, result);
    const A n = number<A>(tile.values_per_channel());
    bool all_sound = true;
    for (Index c = 0; c < channels; ++c) all_sound &= is_sound(result.sum()[c], result.squares()[c], n);
    if (!all_sound) sum_columns_again(view, tile, columns, x, result);
  }

  // Adds up the columns of each channel, which have one center.
  template <class A>
  static BATCHNORM_ALWAYS_INLINE void gather(const Columns& columns, const A* sums, const A* squares,
                                             const MomentSums<A>& result) {
    std::fill_n(result.sum(), columns.step_width / columns.inner, A(0));
    std::fill_n(result.squares(), columns.step_width / columns.inner, A(0));
    columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
      result.sum()[c] = result.sum()[c] + sums[j];
      result.squares()[c] = result.squares()[c] + squares[j];
    });
  }

  // Tells add_columns how many packs to treat side by side.
  template <class P, int Count>
  struct Packs {
    using Pack = P;
    static constexpr int count = Count;
  };

  // The columns of [begin, end).
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_columns(const View& view, const Columns& columns, const T* x, Index begin,
                                                  Index end, const typename P::Scalar* centers, A* sums, A* squares) {
    constexpr Index N = P::size;
    // A cache line's, for each to be fetched once, but no more than there are registers for their sums.
    constexpr int packs_a_line = std::clamp<int>(64 / static_cast<int>(P::size * sizeof(T)), 1, 4);
    const Index ahead = columns.ahead(view, sizeof(T));
    std::fill(sums + begin, sums + end, A(0));
    std::fill(squares + begin, squares + end, A(0));
    for (Index r = 0;;) {
      const bool is_rest = r >= columns.rows;
      const Index rows = is_rest ? 1 : (std::min)(column_rows, columns.rows - r);
      const Index width = is_rest ? (std::min)(columns.rest, end) : end;
      const T* const from = x + columns.begin + r * columns.stride;
      Index j = begin;
      const auto add = [&](auto packs, Index first, Index skip) BATCHNORM_INLINE_LAMBDA {
        using Q = typename decltype(packs)::Pack;
        add_columns<Q, decltype(packs)::count>(from + first, rows, columns.stride, skip, ahead, centers + first,
                                               sums + first, squares + first);
      };
      for (; j + packs_a_line * N <= width; j += packs_a_line * N) add(Packs<P, packs_a_line>(), j, 0);
      if constexpr (packs_a_line > 1) {
        for (; j + N <= width; j += N) add(Packs<P, 1>(), j, 0);
      }
      if (j < width && width - begin >= N) {
        add(Packs<P, 1>(), width - N, j - (width - N));
      } else {
        for (; j < width; ++j) add(Packs<Pack<typename P::Scalar, 1>, 1>(), j, 0);
      }
      if (is_rest) return;
      r += rows;
    }
  }

  // Adds some rows of the columns in K neighbouring packs, less the first `skip` of each.
  template <class P, int K, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_columns(const T* x, Index rows, Index stride, Index skip, Index ahead,
                                                  const typename P::Scalar* centers, A* sums, A* squares) {
    P center[K], sum[K], square[K];
    BATCHNORM_UNROLL
    for (int k = 0; k < K; ++k) {
      center[k] = load<P>(centers + k * P::size);
      sum[k] = square[k] = zero<P>();
    }
    for (Index r = 0; r < rows; ++r, x += stride) {
      if (ahead != 0) detail::prefetch(x + ahead);
      BATCHNORM_UNROLL
      for (int k = 0; k < K; ++k) {
        P d = load<P>(x + k * P::size) - center[k];
        if (skip != 0) d = blend(zero<P>(), d, skip);
        sum[k] = sum[k] + d;
        square[k] = add_product(square[k], d, d);
      }
    }
    BATCHNORM_UNROLL
    for (int k = 0; k < K; ++k) {
      add_wider(sums + k * P::size, sum[k]);
      add_wider(squares + k * P::size, square[k]);
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ACCUMULATE_MOMENTS_HPP
