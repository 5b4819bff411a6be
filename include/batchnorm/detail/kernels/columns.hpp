// Walking a tile by columns: along rows of neighbouring channels, each column (c, i) with sums or coefficients of its
// own.

#ifndef BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP
#define BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP

#include "batchnorm/detail/kernels/prefetch.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The rows of a tile that is walked by columns: `rows` rows of `width` elements, and after them one row of `rest`
/// elements.
///
/// Where a whole outer step is narrower than a few packs, a row is `repeat` outer steps, which lie one after another in
/// a tensor, and each channel has `repeat` times its columns. Three channels, inner = 1, repeat = 4:
///
///     column   0  1  2  3  4  5  6  7  8  9 10 11
///     channel  0  1  2  0  1  2  0  1  2  0  1  2
struct Columns {
  Index width{}, rows{}, rest{};
  Index repeat{}, channels, inner;

  /// `join` says whether narrow outer steps are joined to one row.
  Columns(const View& view, const Tile& tile, bool join = true) : channels(tile.channels()), inner(view.inner) {
    const Index outer = tile.outer_end - tile.outer_begin, step_width = view.step_width();
    const bool narrow = join && step_width < narrow_stride && outer > 1;  // spares small tensors the divisions
    repeat = narrow ? std::max<Index>(1, (std::min)(outer, narrow_stride / step_width)) : 1;
    width = repeat * channels * inner;
    rows = narrow ? outer / repeat : outer;
    rest = (outer - rows * repeat) * channels * inner;
  }

  /// Whether the elements of a row lie one after another in memory.
  template <class T>
  bool lie_in(const Elements<T>& elements, const View& view) const {
    return repeat > 1 ? elements.is_dense(view) : elements.has_whole_steps(view);
  }

  /// Whether a column is its channel.
  bool single() const { return width == channels; }

  /// How many elements further in memory, by whole rows `stride` apart, lies what is to be fetched; 0 for nothing.
  Index lookahead(const Prefetch& prefetch, Index stride) const {
    return prefetch.what == Prefetch::What::walk ? ceil_div(prefetch.distance, width) * stride : prefetch.distance;
  }

  /// Calls f(c, j) for each column j, which is of the tile's c-th channel; for each c in an order that is always the
  /// same.
  template <class F>
  BATCHNORM_ALWAYS_INLINE void for_each_column(const F& f) const {
    Index j = 0;
    for (Index r = 0; r < repeat; ++r) {
      for (Index c = 0; c < channels; ++c) {
        Index i = 0;
        do f(c, j++);
        while (++i < inner);
      }
    }
  }

  /// Walks the columns [from, to) of all rows, `rows_at_once` rows side by side: rows_from(r, count, width) gives what
  /// stands for `count` rows of `width` elements from the r-th on, and add(type, these, count, j, skip) is for the
  /// packs of type::count packs of type::Pack that begin in their column j, without the first `skip` columns, which a
  /// pack before has done. `Packs` neighbouring packs are one call where there are so many. The same rows are taken
  /// together for every column, whatever [from, to) is.
  template <class P, int Packs, class RowsFrom, class Add>
  BATCHNORM_ALWAYS_INLINE void for_each_pack_of_rows(Index from, Index to, Index rows_at_once,
                                                     const RowsFrom& rows_from, const Add& add) const;
};

/// Tells a function to treat Count neighbouring packs side by side.
template <class P, int Count>
struct PackGroup {
  using Pack = P;
  static constexpr int count = Count;
};

template <class P, int Packs, class RowsFrom, class Add>
BATCHNORM_ALWAYS_INLINE void Columns::for_each_pack_of_rows(Index from, Index to, Index rows_at_once,
                                                            const RowsFrom& rows_from, const Add& add) const {
  constexpr Index N = P::size;
  for (Index r = 0;;) {
    const bool is_rest = r >= rows;
    const Index count = is_rest ? 1 : (std::min)(rows_at_once, rows - r);
    const Index end = is_rest ? (std::min)(rest, to) : to;
    const auto these = rows_from(r, count, is_rest ? rest : width);
    Index j = from;
    for (; j + Packs * N <= end; j += Packs * N) add(PackGroup<P, Packs>(), these, count, j, Index(0));
    if constexpr (Packs > 1) {
      for (; j + N <= end; j += N) add(PackGroup<P, 1>(), these, count, j, Index(0));
    }
    if (j < end && end - from >= N) {  // the last pack, less what it shares with the one before
      add(PackGroup<P, 1>(), these, count, end - N, j - (end - N));
    } else {
      for (; j < end; ++j) add(PackGroup<typename P::One, 1>(), these, count, j, Index(0));
    }
    if (is_rest) return;
    r += count;
  }
}

/// The segments of memory of a tile that is walked by columns, a row each, or all rows in one where they lie one after
/// another: each of n elements, whose columns begin again after `period`, one or several widths.
struct Segments {
  Index count{}, n{}, period;

  /// To be walked in packs of `pack`, a power of two, with coefficients of at most `most` columns.
  Segments(const Columns& columns, bool one, Index pack, Index most) : period(columns.width) {
    count = one ? 1 : columns.rows;
    n = one ? columns.rows * columns.width + columns.rest : columns.width;
    // A long segment begins its columns again after whole packs, and not after every few.
    constexpr Index least_period = 128;
    const Index longest = (std::min)(most, n / least_period);
    Index repeat = pack / (std::min)(pack, period & -period);
    while (repeat * period < least_period) repeat *= 2;
    while (repeat > 1 && repeat * period > longest) repeat /= 2;
    period *= repeat;
  }

  /// Whether a segment goes on from its last column to its first again.
  bool wraps() const { return n > period; }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP
