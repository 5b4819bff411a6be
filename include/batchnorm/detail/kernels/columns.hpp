// Walking a tile by columns: along rows of neighbouring channels, each column (c, i) with sums or coefficients of its
// own.

#ifndef BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP
#define BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP

#include "batchnorm/detail/schedule/partition.hpp"
#include "batchnorm/detail/simd/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The rows of a tile that is walked by columns: `rows` rows of `width` elements, `stride` apart, from `begin` on, and
/// after them one row of `rest` elements. Where a whole outer step is narrower than a few packs, a row is `repeat`
/// outer steps, which lie one after another, and each channel has `repeat` times its columns.
struct Columns {
  Index begin, width, stride, rows, rest;
  Index repeat, step_width, inner;

  Columns(const View& view, const Tile& tile) {
    const Index outer = tile.outer_end - tile.outer_begin, step = view.channels * view.inner;
    inner = view.inner;
    step_width = tile.channels() * inner;
    begin = tile.outer_begin * step + tile.channel_begin * inner;
    const bool narrow = step < narrow_step && outer > 1;  // spares small tensors the divisions
    repeat = narrow ? std::max<Index>(1, (std::min)(outer, narrow_step / step)) : 1;
    width = repeat * step_width;
    stride = repeat * step;
    rows = narrow ? outer / repeat : outer;
    rest = (outer - rows * repeat) * step_width;
  }

  /// How many elements on, by whole rows, lies what is to be fetched ahead; 0 for none.
  Index ahead(const View& view, std::size_t element_bytes) const {
    return ceil_div(fetch_ahead(view, element_bytes), width) * stride;
  }

  /// Calls f(c, j) for each column j, which is of the tile's c-th channel; for each c in an order that is always the
  /// same.
  template <class F>
  BATCHNORM_ALWAYS_INLINE void for_each_column(const F& f) const {
    Index j = 0;
    for (Index r = 0; r < repeat; ++r) {
      for (Index c = 0; c < step_width / inner; ++c) {
        Index i = 0;
        do f(c, j++);
        while (++i < inner);
      }
    }
  }
};

/// What is fetched for a walk along rows: what lies `distance` elements on, unless that is 0; beyond the next `left`
/// elements, `jump` more.
struct RowAhead {
  Index distance, left, jump;

  /// What comes `distance` elements later in a walk through runs of `run` elements that begin `step` apart, or, if that
  /// is more than a run, whole runs later.
  static RowAhead along(Index distance, Index run, Index step) {
    if (distance < run) return {distance, run, step - run};
    return {ceil_div(distance, run) * step, run, 0};
  }

  template <class T>
  BATCHNORM_ALWAYS_INLINE void fetch(const T* x) const {
    if (distance != 0) detail::prefetch(x + distance + (distance < left ? 0 : jump));
  }
  /// The same for a walk that has come `steps` elements further.
  BATCHNORM_ALWAYS_INLINE RowAhead after(Index steps) const { return {distance, left - steps, jump}; }
};

/// The runs of memory of a tile that is walked by columns, `stride` apart from `begin` on: each of n elements, whose
/// columns begin again after `period`, one or several widths.
struct Runs {
  Index begin, count, stride, n, period;

  /// To be walked in packs of `pack`, a power of two.
  Runs(const Columns& columns, Index pack) : begin(columns.begin), stride(columns.stride), period(columns.width) {
    const bool one_run = columns.stride == columns.width;
    count = one_run ? 1 : columns.rows;
    n = one_run ? columns.rows * columns.width + columns.rest : columns.width;
    // A long run begins its columns again after whole packs, and not after every few.
    const Index longest = (std::min)(max_columns, n / 128);
    Index repeat = pack / (std::min)(pack, period & -period);
    while (repeat * period < 128) repeat *= 2;
    while (repeat > 1 && repeat * period > longest) repeat /= 2;
    period *= repeat;
  }

  /// Whether a run goes on from its last column to its first again.
  bool wraps() const { return n > period; }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_COLUMNS_HPP
