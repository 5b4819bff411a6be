// Walking a tile by columns: rows of neighbouring channels, each column (c, i) with coefficients or sums of its own.

#ifndef BATCHNORM_DETAIL_COLUMNS_HPP
#define BATCHNORM_DETAIL_COLUMNS_HPP

#include "batchnorm/detail/partition.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The rows of a tile that is walked by columns: `rows` rows of `width` elements, `stride` apart, from `begin` on, and
/// after them one row of `rest` elements. Where a whole outer step is narrower than a few vectors, a row is `repeat`
/// outer steps, which lie one after another, and each channel has `repeat` times its columns.
struct Columns {
  Index begin, width, stride, rows, rest;
  Index repeat, step_width, inner;

  Columns(const View& view, const Tile& tile) {
    const Index outer = tile.outer_end - tile.outer_begin, step = view.channels * view.inner;
    inner = view.inner;
    step_width = tile.channels() * inner;
    begin = tile.outer_begin * step + tile.channel_begin * inner;
    repeat = step_width == step && step < narrow ? std::min(outer, narrow / step) : 1;
    width = repeat * step_width;
    stride = repeat * step;
    rows = outer / repeat;
    rest = outer % repeat * step_width;
  }

  /// The number of values of one channel.
  Index values_per_channel() const { return (rows * repeat + rest / step_width) * inner; }

  /// Calls f(j) for each column j of the tile's c-th channel, always in the same order.
  template <class F>
  BATCHNORM_ALWAYS_INLINE void for_each_of_channel(Index c, const F& f) const {
    for (Index r = 0; r < repeat; ++r) {
      const Index first = r * step_width + c * inner;
      for (Index j = first; j < first + inner; ++j) f(j);
    }
  }

  /// Calls f(begin, n, width) for each run of n elements from `begin` on: all rows at once where they lie one after
  /// another, so that only the run's ends are short of whole packs.
  template <class F>
  BATCHNORM_ALWAYS_INLINE void for_each_row(const F& f) const {
    if (stride == width) return f(begin, rows * width + rest, width);
    for (Index r = 0; r < rows; ++r) f(begin + r * stride, width, width);
  }

  /// Sets the `count` elements after each array's columns to its first ones, over and over.
  template <class... Arrays>
  void repeat_first(Index count, Arrays&... arrays) const {
    for (Index j = width; j < width + count; ++j) ((arrays[j] = arrays[j - width]), ...);
  }

 private:
  static constexpr Index narrow = 64;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_COLUMNS_HPP
