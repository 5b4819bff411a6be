// How a tensor is cut into pieces of work.

#ifndef BATCHNORM_DETAIL_SCHEDULE_PARTITION_HPP
#define BATCHNORM_DETAIL_SCHEDULE_PARTITION_HPP

#include <algorithm>

#include "batchnorm/detail/schedule/view.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A box of a view: the half-open ranges of its three axes.
struct Tile {
  Index outer_begin, outer_end;
  Index channel_begin, channel_end;
  Index inner_begin, inner_end;

  Index channels() const { return channel_end - channel_begin; }
  Index values_per_channel() const { return (outer_end - outer_begin) * (inner_end - inner_begin); }
};

/// The most channels in a tile, and the most elements (c, i) of neighbouring channels that a kernel treats as columns:
/// what it keeps of them, in arrays on its stack, stays in the first-level cache.
inline constexpr Index max_columns = 1024;

/// A kernel walks a tile in one of two ways. By rows: one channel after another, along `inner`, where that is long
/// enough to fill vectors. By columns: along neighbouring channels, where inner is 1 or short, with one set of
/// coefficients or sums for each element (c, i) of an outer step.
inline constexpr Index least_row = 16;
inline bool by_columns(const View& view) { return view.inner < least_row; }

/// An outer step narrower than this is not cut into blocks, and walked by columns together with its neighbours.
inline constexpr Index narrow_step = 64;

/// How far ahead of a pass memory is fetched, in bytes: a core's own prefetchers stop at the end of each page, and
/// double what they reach alone when told so early.
inline constexpr Index prefetch_bytes = 16384;

/// The least tensor for which that is done: what is in a third-level cache, the core's own prefetchers bring in time,
/// and more requests are in their way.
inline constexpr Index prefetched_bytes = Index(16) << 20;

/// How many elements ahead of a pass to fetch; 0 for none.
inline Index fetch_ahead(const View& view, std::size_t element_bytes) {
  const auto bytes = static_cast<Index>(element_bytes);
  return view.size() * bytes < prefetched_bytes ? 0 : prefetch_bytes / bytes;
}

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

/// Where the i-th of `parts` pieces of [0, n) begins, the pieces being equal multiples of `unit` as nearly as can be.
inline Index cut(Index n, Index parts, Index i, Index unit = 1) {
  if (parts == 1) return i == 0 ? 0 : n;  // spares small tensors the divisions
  const Index units = ceil_div(n, unit);
  return (std::min)(n, (units / parts * i + (std::min)(i, units % parts)) * unit);
}

/// How many elements ahead of what a pass reads is to be fetched into the cache: of x, and of dy where it reads both. 0
/// is for nothing, or, for a pass that sums, for what its own walk comes to.
struct Ahead {
  Index x = 0, dy = 0;
};

/// What two passes over one block fetch of the next.
struct NextBlock {
  Ahead first, second;
};

/// Cuts a view that is not empty into slices along outer and inner, and into blocks of channels. A tile is one slice of
/// one block.
///
/// Sums are taken tile by tile and merged in the order of the slices, so the slices decide the bits of a sum: they
/// depend on the shape alone. The blocks do not, no sum crossing from one channel to another, and follow the number of
/// threads and the cache as well; so does everything about a pass that takes no sums.
class Partition {
 public:
  /// For a pass that takes sums of one or more tensors, and a second one over the same tiles.
  static Partition for_sums(const View& view, std::size_t element_bytes, Index tensors, Index threads) {
    Partition result(view, element_bytes);
    result.tensors_ = tensors;
    const Index bytes = tensors * result.element_bytes_;
    if (by_columns(view)) {
      result.cut_columns_for_sums(bytes, threads);
    } else {
      result.cut_rows_for_sums(bytes, threads);
    }
    return result;
  }

  /// For one pass, element by element, straight through memory.
  static Partition for_elements(const View& view, std::size_t element_bytes, Index threads) {
    Partition result(view, element_bytes);
    result.cut_blocks(result.widest_block(), result.element_bytes_);
    if (threads == 1) return result;
    const Index wanted = 4 * threads;
    result.outer_slices_ = (std::min)(view.outer, ceil_div(wanted, result.blocks_));
    if (result.tiles() < wanted) {
      const Index blocks = ceil_div(wanted, result.outer_slices_);
      result.cut_blocks(ceil_div(view.channels, blocks), result.element_bytes_);
    }
    if (result.tiles() < wanted && !by_columns(view)) {
      const Index bytes = view.inner * result.element_bytes_;
      result.inner_slices_ = (std::min)(ceil_div(wanted, result.tiles()), ceil_div(bytes, small_bytes));
    }
    return result;
  }

  Index slices() const { return outer_slices_ * inner_slices_; }
  Index blocks() const { return blocks_; }
  Index tiles() const { return slices() * blocks_; }

  /// Whether both passes over a block of channels are best done before the next block, so that the second finds in the
  /// cache what the first has read.
  bool fused() const { return fused_; }

  /// How many elements ahead of a pass that writes to fetch: of a panel of columns, as many rows as make up the
  /// distance.
  Ahead ahead() const {
    const Index ahead = fetch_ahead(view_, static_cast<std::size_t>(element_bytes_));
    if (ahead == 0 || !by_columns(view_) || blocks_ == 1) return {ahead, ahead};
    const Index step = view_.channels * view_.inner, rows = ceil_div(ahead, ceil_div(step, blocks_));
    return {rows * step, rows * step};
  }

  /// As far ahead as the next block lies, where the cache holds both.
  NextBlock next_block() const {
    const Index channels = cut(view_.channels, blocks_, 1, unit_), next = channels * view_.inner;
    const bool fit = channels * view_.values_per_channel() * tensors_ * element_bytes_ <= next_block_bytes;
    if (!fit || blocks_ == 1 || ahead().x == 0) return {};
    // 16-bit values are summed so slowly that those of one tensor come meanwhile.
    if (element_bytes_ > 2) return {{}, {next, next}};
    return tensors_ == 1 ? NextBlock{} : NextBlock{{next, 0}, {0, next}};
  }

  /// One of tiles(), the blocks of a slice one after another.
  Tile tile(Index i) const {
    if (tiles() == 1) return {0, view_.outer, 0, view_.channels, 0, view_.inner};  // spares small tensors the divisions
    const Index slice = i / blocks_;
    return tile(slice, i - slice * blocks_);
  }

  /// How many slices a pass that writes is to take at once: what it prepares for each channel of a tile is for all of
  /// them, but threads need tiles to share.
  Index slices_at_once(Index threads) const {
    return inner_slices_ == 1 ? std::clamp<Index>(outer_slices_ / (4 * threads), 1, 4) : 1;
  }

  /// A block's slices [begin, end), of one outer step or of whole ones, as one tile.
  Tile tile(Index begin, Index end, Index block) const {
    Tile result = tile(begin, block);
    const Tile last = tile(end - 1, block);
    result.outer_end = last.outer_end;
    result.inner_end = last.inner_end;
    return result;
  }

  Tile tile(Index slice, Index block) const {
    const Index o = inner_slices_ == 1 ? slice : slice / inner_slices_, i = slice - o * inner_slices_;
    return {cut(view_.outer, outer_slices_, o),         cut(view_.outer, outer_slices_, o + 1),
            cut(view_.channels, blocks_, block, unit_), cut(view_.channels, blocks_, block + 1, unit_),
            cut(view_.inner, inner_slices_, i),         cut(view_.inner, inner_slices_, i + 1)};
  }

 private:
  // Values of one channel (by rows) or of all (by columns) in a slice: enough that what is done once a slice costs
  // little, few enough for threads to share the work of a tensor with few channels.
  static constexpr Index slice_values = Index(1) << 15;
  // Rows that are summed before their sums are merged with others', which by columns takes as long as summing up a good
  // thirty rows.
  static constexpr Index least_rows = 256;
  // Slices of so many rows enough for any number of threads.
  static constexpr Index most_slices = 64;
  // What a pass over one block may read and still leave in a second-level cache for the next pass.
  static constexpr Index cached_bytes = Index(1) << 20;
  // Likewise with the next block beside it.
  static constexpr Index next_block_bytes = Index(3) << 18;
  // A narrower panel of columns wastes what memory brings in besides.
  static constexpr Index fused_bytes = 2048;
  // Less of one row than this is not worth a task.
  static constexpr Index small_bytes = Index(1) << 15;

  Partition(const View& view, std::size_t element_bytes)
      : view_(view), element_bytes_(static_cast<Index>(element_bytes)) {}

  Index widest_block() const { return by_columns(view_) ? std::max<Index>(1, max_columns / view_.inner) : max_columns; }

  void cut_rows_for_sums(Index bytes, Index threads) {
    if (view_.inner > slice_values) {
      outer_slices_ = view_.outer;
      inner_slices_ = ceil_div(view_.inner, slice_values);
    } else {
      const Index rows = (std::max)(least_rows, view_.outer / most_slices);
      outer_slices_ = ceil_div(view_.outer, (std::min)(rows, slice_values / view_.inner));
    }
    // For two passes over a block at once, as many channels as the cache holds. A thread that hops between short runs
    // of memory waits for each; several together find the memory busy enough with shorter ones. What gains less from
    // the cache than it loses so is better done in two passes straight through memory.
    const Index channel_bytes = view_.values_per_channel() * bytes, fitting = cached_bytes / 2 / channel_bytes;
    const Index least_run = fitting == 0 ? 4096 : threads == 1 ? 2048 : 512;
    Index block = std::clamp<Index>(fitting, 1, widest_block()), wide = (std::min)(widest_block(), view_.channels);
    if (threads > 1) {  // several blocks or tiles for each
      block = (std::min)(block, ceil_div(view_.channels, 4 * threads));
      wide = (std::min)(wide, ceil_div(view_.channels, ceil_div(4 * threads, slices())));
    }
    const bool hops = block < wide && block * view_.inner * element_bytes_ < least_run;
    blocks_ = ceil_div(view_.channels, hops ? wide : block);
    fused_ = !hops && (threads == 1 || blocks_ >= 2 * threads);
  }

  void cut_columns_for_sums(Index bytes, Index threads) {
    const Index step = view_.channels * view_.inner;  // elements of one outer step
    const Index outer_a_slice = (std::max)({least_rows, slice_values / step, view_.outer / most_slices});
    outer_slices_ = ceil_div(view_.outer, outer_a_slice);

    const Index unit = block_unit(bytes);
    const Index cached = cached_bytes / (view_.values_per_channel() * bytes);
    Index block = (std::min)(widest_block(), cached);
    if (threads > 1) block = (std::min)(block, ceil_div(ceil_div(view_.channels, threads), unit) * unit);
    // Panels too few leave threads idle.
    fused_ = block * view_.inner * bytes >= (std::min)(view_.channels * view_.inner * bytes, fused_bytes) &&
             (threads == 1 || ceil_div(view_.channels, block) >= threads);
    cut_blocks(fused_ ? block : widest_block(), bytes);
  }

  // Blocks of columns begin at cache lines where channels allow it.
  Index block_unit(Index bytes) const { return view_.inner == 1 ? ceil_div(64, bytes) : 1; }

  void cut_blocks(Index block, Index bytes) {
    unit_ = block_unit(bytes);
    const bool narrow = view_.channels * view_.inner < narrow_step;
    blocks_ = narrow ? 1 : ceil_div(ceil_div(view_.channels, unit_), std::max<Index>(1, block / unit_));
  }

  View view_;
  Index element_bytes_;
  Index tensors_ = 1;
  Index outer_slices_ = 1;
  Index inner_slices_ = 1;
  Index blocks_ = 1;
  Index unit_ = 1;  // blocks begin at multiples of so many channels
  bool fused_ = true;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_PARTITION_HPP
