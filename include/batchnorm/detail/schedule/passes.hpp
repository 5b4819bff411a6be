// One or two passes over a tensor, tile by tile, on the caller's threads.

#ifndef BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP

#include <vector>

#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/kernels/prefetch.hpp"
#include "batchnorm/detail/schedule/phases.hpp"
#include "batchnorm/detail/schedule/tiling.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Each tile once, in any order: pass(tile).
template <class Device, class Pass>
void one_pass(const Device& device, Index threads, const Tiling& tiling, const Pass& pass) {
  run_phases(device, threads, phase(tiling.count(), [&](Index i) { pass(tiling.tile(i)); }));
}

/// A pass that sums each channel up, per-channel algebra, and a pass that uses its outcome:
///
///     accumulate(tile, prefetches, sums)     sets the sums over a tile
///     merge(total, n, sums, k, channels)     adds sums over k values to totals over n, slices in their order
///     algebra(c, channels, total, result)    sets the coefficients of the channels from c on
///     write(tile, prefetches, coefficients)  has those of the tile's channels
///
/// Sums and Coefficients are PerChannel; those that are handed over begin with the channel in question. The bits of the
/// result depend on the slices alone, not on blocks, threads, or the order of passes.
template <class SumsOf, class CoefficientsOf, class Accumulate, class Merge, class Algebra, class Write>
struct TwoPasses {
  using Sums = SumsOf;
  using Coefficients = CoefficientsOf;
  Accumulate accumulate;
  Merge merge;
  Algebra algebra;
  Write write;
};

template <class Sums, class Coefficients, class Accumulate, class Merge, class Algebra, class Write>
TwoPasses<Sums, Coefficients, Accumulate, Merge, Algebra, Write> two_passes(Accumulate accumulate, Merge merge,
                                                                            Algebra algebra, Write write) {
  return {accumulate, merge, algebra, write};
}

/// For the second of two passes where there is none.
struct NoPass {
  template <class Coefficients>
  void operator()(const Tile&, const Prefetches&, const Coefficients&) const {}
};

/// Where two passes leave sums and coefficients for each other. It grows as needed and is kept by its owner, so that
/// only the first call with a shape allocates.
template <class A>
using Workspace = std::vector<A>;

/// In place of one for a caller who may not allocate.
struct NoWorkspace {};

/// Sums and coefficients of the channels of one block; `more` has room for the sums over one slice.
template <class Passes>
struct BlockArrays {
  typename Passes::Sums total, more;
  typename Passes::Coefficients coefficients;
};

/// Both passes over one block.
template <class Passes>
void pass_block(const Tiling& tiling, Index block, const BlockPrefetches& prefetches, const Passes& passes,
                const BlockArrays<Passes>& arrays) {
  const Tile first = tiling.tile(0, block);
  passes.accumulate(first, prefetches.sums, arrays.total);
  Index count = first.values_per_channel();
  for (Index slice = 1; slice < tiling.slices.count(); ++slice) {
    const Tile tile = tiling.tile(slice, block);
    passes.accumulate(tile, prefetches.sums, arrays.more);
    passes.merge(arrays.total, count, arrays.more, tile.values_per_channel(), tile.channels());
    count += tile.values_per_channel();
  }
  passes.algebra(first.channel_begin, first.channels(), arrays.total, arrays.coefficients);
  passes.write(tiling.tile(0, tiling.slices.count(), block), prefetches.writes, arrays.coefficients);
}

/// Block-wise: both passes over one block of channels before the next, so that the second finds in the cache what the
/// first has read.
///
///     block 0: accumulate, algebra, write | block 1: accumulate, algebra, write | ...
template <class Device, class Passes>
void block_wise(const Device& device, Index threads, const Tiling& tiling, const BlockPrefetches& prefetches,
                const Passes& passes, Workspace<typename Passes::Sums::Scalar>& workspace) {
  using Sums = typename Passes::Sums;
  using Coefficients = typename Passes::Coefficients;
  const Index channels = tiling.view.channels;
  workspace.resize(static_cast<std::size_t>((2 * Sums::count + Coefficients::count) * channels));
  const auto total = quantities_in<Sums>(workspace.data(), channels);
  const auto more = quantities_in<Sums>(workspace.data() + Sums::count * channels, channels);
  const auto coefficients = quantities_in<Coefficients>(workspace.data() + 2 * Sums::count * channels, channels);
  run_phases(device, threads, phase(tiling.blocks.count, [&](Index block) {
               const Index c = tiling.tile(0, block).channel_begin;
               pass_block(
                   tiling, block, prefetches, passes,
                   BlockArrays<Passes>{from_channel(total, c), from_channel(more, c), from_channel(coefficients, c)});
             }));
}

/// The same for a caller who may not allocate: arrays for blocks of up to `Most` channels lie on the stack.
/// Coefficients take the place of the sums over one slice, which are merged by then.
template <Index Most, class Device, class Passes>
void block_wise_on_stack(const Device& device, Index threads, const Tiling& tiling, const Passes& passes) {
  using Sums = typename Passes::Sums;
  using Coefficients = typename Passes::Coefficients;
  run_phases(device, threads, phase(tiling.blocks.count, [&](Index block) {
               constexpr Index arrays = Sums::count + (std::max)(Sums::count, Coefficients::count);
               typename Sums::Scalar memory[static_cast<std::size_t>(arrays * Most)];
               const auto more = memory + Sums::count * Most;
               pass_block(tiling, block, BlockPrefetches{}, passes,
                          BlockArrays<Passes>{quantities_in<Sums>(memory, Most), quantities_in<Sums>(more, Most),
                                              quantities_in<Coefficients>(more, Most)});
             }));
}

/// Tensor-wise: the first pass over the whole tensor, then the algebra of all channels, then the second pass, backward,
/// which begins with what the first has left in the cache. Between the phases all threads wait for each other.
///
///     accumulate tile 0, 1, 2 ...  |  merge the slices, algebra  |  write ... tile 2, 1, 0
template <class Device, class Passes>
void tensor_wise(const Device& device, Index threads, const Tiling& tiling, const Prefetches& prefetch_sums,
                 const Prefetches& prefetch_writes, const Passes& passes,
                 Workspace<typename Passes::Sums::Scalar>& workspace) {
  using Sums = typename Passes::Sums;
  using Coefficients = typename Passes::Coefficients;
  constexpr Index merged_channels = 64;  // whose slices are merged in one task
  const Index slices = tiling.slices.count(), blocks = tiling.blocks.count, channels = tiling.view.channels;
  workspace.resize(static_cast<std::size_t>((slices * Sums::count + Coefficients::count) * channels));
  const auto sums = [&](Index slice, Index c) {
    return from_channel(quantities_in<Sums>(workspace.data() + slice * Sums::count * channels, channels), c);
  };
  const auto coefficients = quantities_in<Coefficients>(workspace.data() + slices * Sums::count * channels, channels);

  const auto accumulate = phase(tiling.count(), [&](Index i) {
    const Tile tile = tiling.tile(i);
    passes.accumulate(tile, prefetch_sums, sums(i / blocks, tile.channel_begin));
  });
  const auto merge = phase(ceil_div(channels, merged_channels), [&](Index i) {
    const Index c = i * merged_channels, count_of = (std::min)(merged_channels, channels - c);
    Index count = tiling.tile(0, 0).values_per_channel();
    for (Index slice = 1; slice < slices; ++slice) {
      const Index more = tiling.tile(slice, 0).values_per_channel();
      passes.merge(sums(0, c), count, sums(slice, c), more, count_of);
      count += more;
    }
    passes.algebra(c, count_of, sums(0, c), from_channel(coefficients, c));
  });
  const Index at_once = tiling.slices_at_once(threads);
  const auto write = backward_phase(ceil_div(slices, at_once) * blocks, [&](Index i) {
    const Index slice = i / blocks * at_once;
    const Tile tile = tiling.tile(slice, (std::min)(slices, slice + at_once), i % blocks);
    passes.write(tile, prefetch_writes, from_channel(coefficients, tile.channel_begin));
  });
  run_phases(device, threads, accumulate, merge, write);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_PASSES_HPP
