// The first primitive: per channel, the sums from which the mean and the sum of squared deviations follow.
//
// Sums are of deviations from a value of the channel itself, its first, so that no mean, however large, cancels digits.
// Of n values whose squared deviations add up to M2, any one has (value - mean)^2 <= M2, which bounds what the shift
// can cost to n times the rounding error of a sum. For 32-bit data, summed in double, that is always enough. For
// double, a tile whose values all lie far from the shift is summed again about the mean that they turn out to have.

#ifndef BATCHNORM_DETAIL_ACCUMULATE_MOMENTS_HPP
#define BATCHNORM_DETAIL_ACCUMULATE_MOMENTS_HPP

#include "batchnorm/detail/columns.hpp"
#include "batchnorm/detail/wide.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The mean, as a sum of two numbers of which the second is the first's rounding error, and M2, the sum of squared
/// deviations from it.
template <class A>
struct ChannelMoments {
  A mean, mean_residual, M2;
};

/// The sums, over some values of a channel, of their deviations from `center` and of those squared.
template <class A>
struct CenteredSums {
  A center, sum, squares;
};

/// The moments of n values from their sums.
template <class A>
BATCHNORM_ALWAYS_INLINE ChannelMoments<A> moments_of(const CenteredSums<A>& sums, Index n) {
  ChannelMoments<A> result;
  const A shift = sums.sum / A(static_cast<double>(n));
  // Knuth's TwoSum: mean + mean_residual = center + shift exactly.
  result.mean = sums.center + shift;
  const A added = result.mean - sums.center;
  result.mean_residual = (sums.center - (result.mean - added)) + (shift - added);
  result.M2 = sums.squares - sums.sum * shift;
  if (result.M2 < A(0)) result.M2 = A(0);
  return result;
}

/// Makes `total`, the moments of n values, those of them and k more (Chan, Golub and LeVeque 1979, equations 2.1).
template <class A>
void merge_moments(ChannelMoments<A>& total, Index n, const ChannelMoments<A>& more, Index k) {
  if (k == 0) return;
  if (n == 0) {
    total = more;
    return;
  }
  const A share = A(static_cast<double>(k)) / A(static_cast<double>(n + k));
  const A delta = (more.mean - total.mean) + (more.mean_residual - total.mean_residual);
  const A shift = delta * share;
  const A mean = total.mean + shift;
  const A added = mean - total.mean;
  const A lost = (total.mean - (mean - added)) + (shift - added);
  total.M2 = total.M2 + more.M2 + delta * shift * A(static_cast<double>(n));
  // Renormalized, so that the residual stays below the mean's last digit.
  const A residual = total.mean_residual + lost;
  total.mean = mean + residual;
  total.mean_residual = residual - (total.mean - mean);
}

/// Makes `total`, the sums over n values, those over them and k more.
template <class A>
void merge_sums(CenteredSums<A>& total, Index n, const CenteredSums<A>& more, Index k) {
  if (total.center == more.center) {
    total.sum = total.sum + more.sum;
    total.squares = total.squares + more.squares;
    return;
  }
  ChannelMoments<A> moments = moments_of(total, n);
  merge_moments(moments, n, moments_of(more, k), k);
  total = {moments.mean, moments.mean_residual * A(static_cast<double>(n + k)), moments.M2};
}

struct AccumulateMoments {
  /// Sets result[0 ... tile.channels()). x is the whole tensor.
  template <int Bytes, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void call(const View& view, const Tile& tile, const T* x, CenteredSums<A>* result) {
    using P = Pack<A, lanes<T, A, Bytes>>;
    if (sums_by_columns(view)) {
      by_columns<P>(view, tile, x, result);
    } else {
      by_rows<P>(view, tile, x, result);
    }
  }

 private:
  // For sums wider than the data every shift will do.
  template <class T, class A>
  static constexpr bool may_recenter = std::is_same_v<T, A>;

  // The channels walked together by rows: their sums stay in the first-level cache.
  static constexpr Index row_channels = 64;

  // Whether deviations from the center are so much larger than those from the mean that digits of M2 would be lost.
  template <class A>
  static BATCHNORM_ALWAYS_INLINE bool is_far(const CenteredSums<A>& sums, const A& n) {
    return sums.sum * sums.sum > A(0.96875) * sums.squares * n;
  }

  // Two chains of additions for each sum, which with those of the neighbours in flight hide an addition's latency.
  template <class P>
  struct RowSums {
    Wide<P> sum, squares;
  };

  // Goes along neighbouring channels before the next outer step, which keeps to long runs through memory.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_rows(const View& view, const Tile& tile, const T* x, CenteredSums<A>* result) {
    const Index n = tile.inner_end - tile.inner_begin, rows = tile.outer_end - tile.outer_begin;
    const Index stride = view.channels * view.inner;
    const A values(static_cast<double>(rows * n));
    for (Index begin = tile.channel_begin; begin < tile.channel_end; begin += row_channels) {
      const Index channels = (std::min)(row_channels, tile.channel_end - begin);
      const T* const first = x + (tile.outer_begin * view.channels + begin) * view.inner + tile.inner_begin;
      A centers[row_channels];
      RowSums<P> sums[row_channels];
      for (Index c = 0; c < channels; ++c) {
        centers[c] = convert<A>(x[(begin + c) * view.inner]);
        sums[c].sum = sums[c].squares = Wide<P>::all(A(0));
      }
      // Neighbouring rows lie one after another, if whole; `jump` is from the last to the next outer step's first.
      const bool whole = n == view.inner;
      const Index run = whole ? channels * n : n, jump = whole ? stride - run : view.inner - n;
      for (Index r = 0; r < rows; ++r) {
        const T* const row = first + r * stride;
        for (Index c = 0; c < channels; ++c) {
          add_row(row + c * view.inner, n, centers[c], sums[c], whole ? run - c * n : n, jump);
        }
      }
      for (Index c = 0; c < channels; ++c) {
        CenteredSums<A> total{centers[c], sum(sums[c].sum), sum(sums[c].squares)};
        if (may_recenter<T, A> && is_far(total, values)) {
          total.center = total.center + total.sum / values;
          RowSums<P> again{Wide<P>::all(A(0)), Wide<P>::all(A(0))};
          for (Index r = 0; r < rows; ++r) add_row(first + r * stride + c * view.inner, n, total.center, again, n, 0);
          total.sum = sum(again.sum);
          total.squares = sum(again.squares);
        }
        result[begin - tile.channel_begin + c] = total;
      }
    }
  }

  // n is at least P::size. What will be read next lies `left` elements on and `jump` more.
  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_row(const T* x, Index n, const A& center, RowSums<P>& sums, Index left,
                                              Index jump) {
    constexpr Index ahead = prefetch_bytes / static_cast<Index>(sizeof(T));
    const P k = P::all(center);
    const Wide<P> wide_k{k, k};
    Wide<P> sum = sums.sum, squares = sums.squares;
    Index i = 0;
    for (; i + Wide<P>::size <= n; i += Wide<P>::size) {
      const Wide<P> d = load_wide<P>(x + i) - wide_k;
      detail::prefetch(x + i + ahead + (i + ahead < left ? 0 : jump));
      sum = sum + d;
      squares = mul_add(d, d, squares);
    }
    if (i + P::size <= n) {
      const P d = load<P>(x + i) - k;
      sum.a = sum.a + d;
      squares.a = mul_add(d, d, squares.a);
      i += P::size;
    }
    if (i < n) {  // the row's last pack, less what it shares with the one before
      const P d = without_first(load<P>(x + n - P::size) - k, P::size - (n - i));
      sum.b = sum.b + d;
      squares.b = mul_add(d, d, squares.b);
    }
    sums.sum = sum;
    sums.squares = squares;
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void by_columns(const View& view, const Tile& tile, const T* x,
                                                 CenteredSums<A>* result) {
    const Columns columns(view, tile);
    const A n(static_cast<double>(tile.values_per_channel()));
    const auto sum_about_centers = [&]() BATCHNORM_INLINE_LAMBDA {
      A centers[max_columns], sums[max_columns], squares[max_columns];
      columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA { centers[j] = result[c].center; });
      sum_columns<P>(columns, x + columns.begin, centers, sums, squares);
      // The columns of a channel have one center, so their sums add up.
      for (Index c = 0; c < tile.channels(); ++c) result[c].sum = result[c].squares = A(0);
      columns.for_each_column([&](Index c, Index j) BATCHNORM_INLINE_LAMBDA {
        result[c].sum = result[c].sum + sums[j];
        result[c].squares = result[c].squares + squares[j];
      });
    };
    for (Index c = 0; c < tile.channels(); ++c) result[c].center = convert<A>(x[(tile.channel_begin + c) * view.inner]);
    for (int attempt = 0; attempt < (may_recenter<T, A> ? 2 : 1); ++attempt) {
      if (attempt == 1) {
        bool any_far = false;
        for (Index c = 0; c < tile.channels(); ++c) {
          if (!is_far(result[c], n)) continue;
          any_far = true;
          result[c].center = result[c].center + result[c].sum / n;
        }
        if (!any_far) break;
      }
      sum_about_centers();
    }
  }

  template <class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void sum_columns(const Columns& columns, const T* x, const A* centers, A* sums,
                                                  A* squares) {
    for (Index j = 0; j < columns.width; ++j) sums[j] = squares[j] = A(0);
    Index r = 0;
    for (; r + 4 <= columns.rows; r += 4) {
      const Index ahead = columns.prefetch_distance(static_cast<Index>(sizeof(T)));
      add_rows<4, P>(x + r * columns.stride, columns.stride, columns.width, ahead, centers, sums, squares);
    }
    for (; r <= columns.rows; ++r) {
      const Index width = r < columns.rows ? columns.width : columns.rest;
      add_rows<1, P>(x + r * columns.stride, 0, width, 0, centers, sums, squares);
    }
  }

  // Adds so many rows at once that loading and storing the sums costs little, and rounds them less often.
  template <int Rows, class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_rows(const T* x, Index stride, Index width, Index ahead, const A* centers,
                                               A* sums, A* squares) {
    constexpr Index N = P::size;
    Index j = 0;
    for (; j + N <= width; j += N) add_column<Rows, P>(x + j, stride, 0, ahead, centers + j, sums + j, squares + j);
    if (j == width) return;
    if (width >= N) {
      const Index last = width - N;
      add_column<Rows, P>(x + last, stride, j - last, ahead, centers + last, sums + last, squares + last);
    } else {
      for (; j < width; ++j) add_column<Rows, Pack<A, 1>>(x + j, stride, 0, ahead, centers + j, sums + j, squares + j);
    }
  }

  template <int Rows, class P, class T, class A>
  static BATCHNORM_ALWAYS_INLINE void add_column(const T* x, Index stride, Index skip, Index ahead, const A* centers,
                                                 A* sums, A* squares) {
    const P center = load<P>(centers);
    P sum = P::all(A(0)), square = sum;
    BATCHNORM_UNROLL
    for (int r = 0; r < Rows; ++r, x += stride) {
      P d = load<P>(x) - center;
      detail::prefetch(x + ahead);
      if (skip != 0) d = without_first(d, skip);
      sum = sum + d;
      square = mul_add(d, d, square);
    }
    store(sums, load<P>(sums) + sum);
    store(squares, load<P>(squares) + square);
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ACCUMULATE_MOMENTS_HPP
