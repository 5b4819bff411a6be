// One or two passes over a tensor, tile by tile, on the caller's threads.

#ifndef BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP

#include <vector>

#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/schedule/steps.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Each tile once, in any order: pass(tile).
template <class Device, class Pass>
void one_pass(const Device& device, Index threads, const Partition& partition, const Pass& pass) {
  run_steps(device, threads, step(partition.tiles(), [&](Index i) { pass(partition.tile(i)); }));
}

/// Where two passes leave sums and terms for each other, if a block is not done whole before the next. It grows as
/// needed and is kept by its owner, so that only the first call with a shape allocates.
template <class A>
using Workspace = std::vector<A>;

/// For the second of two passes where there is none.
struct NoPass {
  template <class Terms>
  void operator()(const Tile&, const Terms&, const Ahead&) const {}
};

/// A pass that sums each channel up, per-channel algebra, and a pass that uses its outcome:
///
///     first(tile, sums, ahead)           sets the sums over a tile
///     merge(total, n, sums, k, channels) adds sums of k values to totals of n, slices in their order
///     between(c, channels, total, terms) the algebra: sets the terms of the channels from c on
///     second(tile, terms, ahead)         has the terms of the tile's channels
///
/// Sums and Terms are PerChannel; those that are handed over begin with the channel in question. The bits of the result
/// depend on the partition's slices alone, not on blocks, threads, or whether passes are fused.
template <class Sums, class Terms, class Device, class First, class Merge, class Between, class Second>
void two_passes(const Device& device, Index threads, const Partition& partition, Index channels,
                Workspace<typename Sums::Scalar>* workspace, const First& first, const Merge& merge,
                const Between& between, const Second& second) {
  const Index slices = partition.slices();
  if (partition.fused() || workspace == nullptr) {
    // One thread fetches the next block while it is busy with this one. Several find the memory busy enough.
    const bool fetches = threads == 1 && !std::is_same_v<Second, NoPass>;
    const NextBlock next = fetches ? partition.next_block() : NextBlock{};
    const auto both = [&](Index block) {
      TileQuantities<Sums> total, more;
      TileQuantities<Terms> terms;
      const Tile whole = partition.tile(0, block);
      first(whole, total.all(), next.first);
      Index count = whole.values_per_channel();
      for (Index slice = 1; slice < slices; ++slice) {
        const Tile tile = partition.tile(slice, block);
        first(tile, more.all(), next.first);
        merge(total.all(), count, more.all(), tile.values_per_channel(), tile.channels());
        count += tile.values_per_channel();
      }
      between(whole.channel_begin, whole.channels(), total.all(), terms.all());
      second(partition.tile(0, slices, block), terms.all(), next.second);
    };
    run_steps(device, threads, step(partition.blocks(), both));
    return;
  }
  constexpr Index finished_channels = 64;  // whose slices are merged in one task
  workspace->resize(static_cast<std::size_t>((slices * Sums::count + Terms::count) * channels));
  const auto sums = [&](Index slice, Index c) {
    return from_channel(quantities_in<Sums>(workspace->data() + slice * Sums::count * channels, channels), c);
  };
  const Terms terms = quantities_in<Terms>(workspace->data() + slices * Sums::count * channels, channels);
  const auto sum = [&](Index i) {
    const Tile tile = partition.tile(i);
    first(tile, sums(i / partition.blocks(), tile.channel_begin), Ahead{});
  };
  const auto finish_sums = [&](Index i) {
    const Index c = i * finished_channels, count_of = (std::min)(finished_channels, channels - c);
    Index count = partition.tile(0, 0).values_per_channel();
    for (Index slice = 1; slice < slices; ++slice) {
      const Index more = partition.tile(slice, 0).values_per_channel();
      merge(sums(0, c), count, sums(slice, c), more, count_of);
      count += more;
    }
    between(c, count_of, sums(0, c), from_channel(terms, c));
  };
  const Index at_once = partition.slices_at_once(threads);
  const auto write = [&](Index i) {
    const Index slice = i / partition.blocks() * at_once;
    const Tile tile = partition.tile(slice, (std::min)(slices, slice + at_once), i % partition.blocks());
    second(tile, from_channel(terms, tile.channel_begin), partition.ahead());
  };
  run_steps(device, threads, step(partition.tiles(), sum), step(ceil_div(channels, finished_channels), finish_sums),
            backward_step(ceil_div(slices, at_once) * partition.blocks(), write));
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP
