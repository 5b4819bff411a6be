// One or two passes over a tensor, tile by tile, on the caller's threads.

#ifndef BATCHNORM_DETAIL_PASSES_HPP
#define BATCHNORM_DETAIL_PASSES_HPP

#include <vector>

#include "batchnorm/detail/device.hpp"
#include "batchnorm/detail/partition.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Each tile once, in any order: pass(tile).
template <class Device, class Pass>
void one_pass(const Device& device, Index threads, const Partition& partition, const Pass& pass) {
  for_each_task(device, threads, partition.tiles(),
                [&](Index task) { pass(partition.tile(task / partition.blocks(), task % partition.blocks())); });
}

/// What two passes leave for each other where a block is not done whole before the next. It grows as needed and is kept
/// by its owner, so that only the first call with a shape allocates.
template <class Sums, class Terms>
struct Workspace {
  std::vector<Sums> sums;    // [slices, channels]
  std::vector<Terms> terms;  // [channels]
};

/// A pass that sums each channel up, per-channel algebra, and a pass that uses its outcome:
///
///     first(tile, sums)          sets sums[0 ... tile.channels()) to the sums over a tile
///     merge(total, n, sums, k)   adds a channel's sums of k values to its total of n, slices in their order
///     between(c, total)          the algebra: gives the Terms of channel c
///     second(tile, terms, ahead) has the terms of the tile's channels in terms[0 ... tile.channels()), and is to fetch
///                                what lies so many elements ahead
///
/// The bits of the result depend on the partition's slices alone, not on blocks, threads, or whether passes are fused.
template <class Sums, class Terms, class Device, class First, class Merge, class Between, class Second>
void two_passes(const Device& device, Index threads, const Partition& partition, Index channels,
                Workspace<Sums, Terms>* workspace, const First& first, const Merge& merge, const Between& between,
                const Second& second) {
  const Index slices = partition.slices();
  if (partition.fused() || workspace == nullptr) {
    // One thread fetches the next block while it writes this one. Several find the memory busy enough.
    const Index ahead = threads == 1 ? partition.next_block() : 0;
    for_each_task(device, threads, partition.blocks(), [&](Index block) {
      Sums total[max_columns], sums[max_columns];
      Terms terms[max_columns];
      const Tile whole = partition.tile(0, block);
      first(whole, total);
      Index count = whole.values_per_channel();
      for (Index slice = 1; slice < slices; ++slice) {
        const Tile tile = partition.tile(slice, block);
        first(tile, sums);
        for (Index c = 0; c < tile.channels(); ++c) merge(total[c], count, sums[c], tile.values_per_channel());
        count += tile.values_per_channel();
      }
      for (Index c = 0; c < whole.channels(); ++c) terms[c] = between(whole.channel_begin + c, total[c]);
      for (Index slice = slices; slice-- > 0;) second(partition.tile(slice, block), terms, ahead);
    });
    return;
  }
  workspace->sums.resize(static_cast<std::size_t>(slices * channels));
  workspace->terms.resize(static_cast<std::size_t>(channels));
  Sums* const sums = workspace->sums.data();
  Terms* const terms = workspace->terms.data();
  for_each_task(device, threads, partition.tiles(), [&](Index task) {
    const Index slice = task / partition.blocks();
    const Tile tile = partition.tile(slice, task % partition.blocks());
    first(tile, sums + slice * channels + tile.channel_begin);
  });
  for_each_task(device, threads, partition.blocks(), [&](Index block) {
    const Tile whole = partition.tile(0, block);
    Index count = whole.values_per_channel();
    for (Index slice = 1; slice < slices; ++slice) {
      const Index more = partition.tile(slice, block).values_per_channel();
      for (Index c = whole.channel_begin; c < whole.channel_end; ++c) {
        merge(sums[c], count, sums[slice * channels + c], more);
      }
      count += more;
    }
    for (Index c = whole.channel_begin; c < whole.channel_end; ++c) terms[c] = between(c, sums[c]);
  });
  // From the end, which the first pass has left in the cache.
  for_each_task(device, threads, partition.tiles(), [&](Index task) {
    const Index last = partition.tiles() - 1 - task;
    const Tile tile = partition.tile(last / partition.blocks(), last % partition.blocks());
    second(tile, terms + tile.channel_begin, partition.ahead());
  });
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_PASSES_HPP
