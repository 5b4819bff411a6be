// A view cut into tiles: one slice of one block each.

#ifndef BATCHNORM_DETAIL_SCHEDULE_TILING_HPP
#define BATCHNORM_DETAIL_SCHEDULE_TILING_HPP

#include <algorithm>

#include "batchnorm/detail/schedule/blocks.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Where the i-th of `parts` pieces of [0, n) begins, the pieces being equal multiples of `unit` as nearly as can be.
inline Index cut(Index n, Index parts, Index i, Index unit = 1) {
  if (parts == 1) return i == 0 ? 0 : n;  // spares small tensors the divisions
  const Index units = ceil_div(n, unit);
  return (std::min)(n, (units / parts * i + (std::min)(i, units % parts)) * unit);
}

/// The tiles of a view that is not empty. Three slices, two blocks:
///
///              block 0   block 1
///     slice 0  tile 0    tile 1
///     slice 1  tile 2    tile 3
///     slice 2  tile 4    tile 5
struct Tiling {
  View view;
  Slices slices;
  Blocks blocks;

  /// For a pass that takes sums of one or more tensors, and a second one over the same tiles.
  static Tiling for_sums(const View& view, const Work& work) {
    const Slices slices = Slices::for_sums(view);
    return {view, slices, Blocks::for_sums(view, slices, work)};
  }

  /// For one pass, element by element, straight through memory: here slices decide nothing, and there are as many tiles
  /// as threads ask for.
  static Tiling for_elements(const View& view, const Work& work) {
    const Index bytes = work.element_bytes;
    Tiling result{view, {}, Blocks::for_elements(view, bytes, Blocks::widest(view, work.most_columns))};
    if (work.threads == 1) return result;
    constexpr Index small_bytes = Index(1) << 15;  // less of one row than this is not worth a task
    const Index wanted = 4 * work.threads;
    result.slices.outer = (std::min)(view.outer, ceil_div(wanted, result.blocks.count));
    if (result.count() < wanted) {
      const Index blocks = ceil_div(wanted, result.slices.outer);
      result.blocks = Blocks::for_elements(view, bytes, ceil_div(view.channels, blocks));
    }
    if (result.count() < wanted && !by_columns(view)) {
      result.slices.inner = (std::min)(ceil_div(wanted, result.count()), ceil_div(view.inner * bytes, small_bytes));
    }
    return result;
  }

  Index count() const { return slices.count() * blocks.count; }

  /// The i-th tile.
  Tile tile(Index i) const {
    if (count() == 1) return {0, view.outer, 0, view.channels, 0, view.inner};  // spares small tensors the divisions
    const Index slice = i / blocks.count;
    return tile(slice, i - slice * blocks.count);
  }

  Tile tile(Index slice, Index block) const {
    const Index o = slices.inner == 1 ? slice : slice / slices.inner, i = slice - o * slices.inner;
    return {cut(view.outer, slices.outer, o),
            cut(view.outer, slices.outer, o + 1),
            cut(view.channels, blocks.count, block, blocks.unit),
            cut(view.channels, blocks.count, block + 1, blocks.unit),
            cut(view.inner, slices.inner, i),
            cut(view.inner, slices.inner, i + 1)};
  }

  /// A block's slices [begin, end), of one outer step or of whole ones, as one tile.
  Tile tile(Index begin, Index end, Index block) const {
    Tile result = tile(begin, block);
    const Tile last = tile(end - 1, block);
    result.outer_end = last.outer_end;
    result.inner_end = last.inner_end;
    return result;
  }

  /// How many slices a pass that writes is to take at once: what it prepares for each channel of a tile is for all of
  /// them, but threads need tiles to share.
  Index slices_at_once(Index threads) const {
    return slices.inner == 1 ? std::clamp<Index>(slices.outer / (4 * threads), 1, 4) : 1;
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_TILING_HPP
