// How the channels are cut for threads and caches, which decides no bit.

#ifndef BATCHNORM_DETAIL_SCHEDULE_BLOCKS_HPP
#define BATCHNORM_DETAIL_SCHEDULE_BLOCKS_HPP

#include <algorithm>

#include "batchnorm/detail/schedule/slices.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// What the cut of the channels follows: the tensors that a pass reads, of one shape, the threads, and the most columns
/// that a kernel takes.
struct Work {
  Index element_bytes, tensors, threads, most_columns;

  Index bytes() const { return element_bytes * tensors; }
};

/// Blocks of neighbouring channels. No sum crosses from one channel to another.
struct Blocks {
  Index count = 1;
  Index unit = 1;  // blocks begin at multiples of so many channels
  /// Of two passes, whether both are best done over one block before the next, so that the second finds in the cache
  /// what the first has read.
  bool block_wise = true;

  /// For a pass that takes sums, and a second one that writes.
  static Blocks for_sums(const View& view, const Slices& slices, const Work& work) {
    return by_columns(view) ? columns_for_sums(view, work) : rows_for_sums(view, slices, work);
  }

  /// For a pass straight through memory: blocks of up to `channels` channels.
  static Blocks for_elements(const View& view, Index bytes, Index channels) {
    Blocks result;
    // Blocks of columns begin at cache lines where channels allow it.
    if (view.inner == 1) result.unit = ceil_div(64, bytes);
    const bool narrow = view.step_width() < narrow_stride;
    if (!narrow)
      result.count = ceil_div(ceil_div(view.channels, result.unit), std::max<Index>(1, channels / result.unit));
    return result;
  }

  /// The most channels of a tile.
  static Index widest(const View& view, Index most_columns) {
    return by_columns(view) ? std::max<Index>(1, most_columns / view.inner) : most_columns;
  }

 private:
  // What a pass over one block may read and still leave in a second-level cache for the next pass.
  static constexpr Index cached_bytes = Index(1) << 20;

  static Blocks rows_for_sums(const View& view, const Slices& slices, const Work& work) {
    // For two passes over a block at once, as many channels as the cache holds. A thread that hops between short
    // stretches of memory waits for each; several together find the memory busy enough with shorter ones. What gains
    // less from the cache than it loses so is better done in two passes straight through memory.
    const Index threads = work.threads, most = widest(view, work.most_columns);
    const Index fitting = cached_bytes / 2 / (view.values_per_channel() * work.bytes());
    const Index least_stretch = fitting == 0 ? 4096 : threads == 1 ? 2048 : 512;
    Index block = std::clamp<Index>(fitting, 1, most), wide = (std::min)(most, view.channels);
    if (threads > 1) {  // several blocks or tiles for each
      block = (std::min)(block, ceil_div(view.channels, 4 * threads));
      wide = (std::min)(wide, ceil_div(view.channels, ceil_div(4 * threads, slices.count())));
    }
    const bool hops = block < wide && block * view.inner * work.element_bytes < least_stretch;
    Blocks result;
    result.count = ceil_div(view.channels, hops ? wide : block);
    result.block_wise = !hops && (threads == 1 || result.count >= 2 * threads);
    return result;
  }

  static Blocks columns_for_sums(const View& view, const Work& work) {
    // A narrower panel of columns wastes what memory brings in besides.
    constexpr Index least_panel = 2048;
    const Index bytes = work.bytes(), threads = work.threads, most = widest(view, work.most_columns);
    const Index unit = view.inner == 1 ? ceil_div(64, bytes) : 1;
    Index block = (std::min)(most, cached_bytes / (view.values_per_channel() * bytes));
    if (threads > 1) block = (std::min)(block, ceil_div(ceil_div(view.channels, threads), unit) * unit);
    // Panels too few leave threads idle.
    const bool block_wise = block * view.inner * bytes >= (std::min)(view.step_width() * bytes, least_panel) &&
                            (threads == 1 || ceil_div(view.channels, block) >= threads);
    Blocks result = for_elements(view, bytes, block_wise ? block : most);
    result.block_wise = block_wise;
    return result;
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_BLOCKS_HPP
