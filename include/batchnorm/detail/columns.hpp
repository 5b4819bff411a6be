// Walking a tile by columns: along rows of neighbouring channels, each column (c, i) with sums or coefficients of its
// own.

#ifndef BATCHNORM_DETAIL_COLUMNS_HPP
#define BATCHNORM_DETAIL_COLUMNS_HPP

#include "batchnorm/detail/partition.hpp"
#include "batchnorm/detail/simd.hpp"

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
    repeat = step < narrow_step ? std::max<Index>(1, (std::min)(outer, narrow_step / step)) : 1;
    width = repeat * step_width;
    stride = repeat * step;
    rows = outer / repeat;
    rest = outer % repeat * step_width;
  }

  /// How many elements on, by whole rows, lies what is to be fetched ahead.
  Index prefetch_distance(Index element_bytes) const {
    return ceil_div(prefetch_bytes, width * element_bytes) * stride;
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

/// The runs of memory of a tile that is walked by columns, `stride` apart from `begin` on: each of n elements, whose
/// columns begin again after `period`.
struct Runs {
  Index begin, count, stride, n, period;

  explicit Runs(const Columns& columns) : begin(columns.begin), stride(columns.stride), period(columns.width) {
    const bool one_run = columns.stride == columns.width;
    count = one_run ? 1 : columns.rows;
    n = one_run ? columns.rows * columns.width + columns.rest : columns.width;
  }

  /// Whether a run goes on from its last column to its first again.
  bool wraps() const { return n > period; }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_COLUMNS_HPP
