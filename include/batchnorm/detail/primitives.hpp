// The four primitives over whole tensors: a kernel, a tiling, and the caller's threads.

#ifndef BATCHNORM_DETAIL_PRIMITIVES_HPP
#define BATCHNORM_DETAIL_PRIMITIVES_HPP

#include "batchnorm/detail/algebra/batch_norm.hpp"
#include "batchnorm/detail/kernels/instances.hpp"
#include "batchnorm/detail/schedule/caches.hpp"
#include "batchnorm/detail/schedule/passes.hpp"
#include "batchnorm/detail/schedule/view.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T>
inline constexpr Index bytes_of = static_cast<Index>(sizeof(T));

/// Whether a kernel finds a tensor's elements as it walks them: by columns, it asks for the rows of an outer step one
/// after another.
template <class T>
bool is_walkable(const View& view, const Elements<T>& elements) {
  return !by_columns(view) || elements.has_whole_steps(view);
}

/// What a call of a primitive that reads some tensors of T does with the device's threads.
template <class T, class Device>
Work work_on(const Device& device, const View& view, Index tensors) {
  return {bytes_of<T>, tensors, usable_threads(device, tensors * view.size() * bytes_of<T>),
          max_columns<accumulator_t<T>>};
}

/// The same of one that takes sums, which copies what it cannot walk. `fused` is for extended kernels, which need room
/// for more coefficients.
template <class T, class Device, std::size_t N>
Work work_of_sums(const Device& device, const View& view, const Elements<const T> (&tensors)[N], bool fused) {
  Work work = work_on<T>(device, view, static_cast<Index>(N));
  bool narrow = fused;
  for (const auto& elements : tensors) narrow = narrow || !is_walkable(view, elements);
  if (narrow) work.most_columns = half_max_columns<accumulator_t<T>>;
  return work;
}

/// What that is for the memory.
inline Traffic traffic_of(const Work& work) { return {work.element_bytes, work.tensors, cache_bytes()}; }

/// Two passes in the order that the tiling asks for.
template <class Device, class Passes>
void run_two_passes(const Device& device, const View& view, const Work& work, bool second_pass, const Passes& passes,
                    Workspace<typename Passes::Sums::Scalar>& workspace) {
  const Tiling tiling = Tiling::for_sums(view, work);
  const Traffic traffic = traffic_of(work);
  const Prefetch walk = prefetch_walk(view, traffic);
  const Index blocks = tiling.blocks.count;
  if (tiling.blocks.block_wise) {
    // One thread fetches the next block while it is busy with this one. Several find the memory busy enough.
    const BlockPrefetches prefetches = work.threads == 1 && second_pass
                                           ? prefetch_next_block(view, traffic, blocks, tiling.tile(0, 0).channels())
                                           : BlockPrefetches{{walk, walk}, {}};
    block_wise(device, work.threads, tiling, prefetches, passes, workspace);
  } else {
    const Prefetch writes = prefetch_elements(view, traffic, blocks);
    tensor_wise(device, work.threads, tiling, {walk, walk}, {writes, writes}, passes, workspace);
  }
}

/// Without a workspace nothing is allocated, at the cost of threads that share no channel's work.
template <class Device, class Passes>
void run_two_passes(const Device& device, const View& view, const Work& work, bool, const Passes& passes,
                    const NoWorkspace&) {
  constexpr Index most = half_max_columns<typename Passes::Sums::Scalar>;
  Work narrower = work;
  narrower.most_columns = most;
  block_wise_on_stack<most>(device, work.threads, Tiling::for_sums(view, narrower), passes);
}

/// Calls run(view, tile, c, tensors) for copies of parts of a tile that the kernel cannot walk: of some outer steps,
/// and of the channels from the tile's c-th on.
template <class T, std::size_t N, std::size_t M, class Run>
BATCHNORM_COLD void run_on_copies(const View& view, const Tile& tile, const Operands<T, N, M>& tensors,
                                  const Run& run) {
  constexpr Index most = half_max_columns<accumulator_t<T>>;
  T memory[N + M][static_cast<std::size_t>(most)];
  const Index at_once = most / view.inner;
  const Index steps = std::max<Index>(1, at_once / tile.channels());  // of so few channels, several outer steps
  for (Index o = tile.outer_begin; o < tile.outer_end; o += steps) {
    for (Index c = 0; c < tile.channels(); c += at_once) {
      const View part{(std::min)(steps, tile.outer_end - o), (std::min)(at_once, tile.channels() - c), view.inner};
      const auto part_of = [&](auto elements) {
        elements.data = elements.at(o, tile.channel_begin + c, 0);
        return elements;
      };
      Operands<T, N, M> copies;
      for (std::size_t t = 0; t < N; ++t) {
        gather_elements(part_of(tensors.in[t]), part, memory[t]);
        copies.in[t] = Elements<T>::dense(memory[t], part);
      }
      for (std::size_t t = 0; t < M; ++t) {
        copies.out[t] = Elements<T>::dense(tensors.out[t].data == nullptr ? nullptr : memory[N + t], part);
      }
      run(part, Tile{0, part.outer, 0, part.channels, 0, part.inner}, c, copies);
      for (std::size_t t = 0; t < M; ++t) {
        if (tensors.out[t].data != nullptr) scatter_elements<T>(memory[N + t], part, part_of(tensors.out[t]));
      }
    }
  }
}

/// Runs a kernel that writes a tile, as run(view, tile, c, tensors), from the tile's c-th channel on.
template <class T, std::size_t N, std::size_t M, class Run>
void run_elementwise(const View& view, const Tile& tile, const Operands<T, N, M>& tensors, const Run& run) {
  if (tensors.all_of([&](const auto& elements) { return is_walkable(view, elements); })) {
    run(view, tile, 0, tensors);
  } else {
    run_on_copies(view, tile, tensors, run);
  }
}

/// Whether an output is so large that it is better not left in the cache; in place it is there already. Two outputs
/// past the cache at once take several times as long; and the kernel that may have two writes half a line at a time,
/// which pays only for what is several times as large.
template <class T, std::size_t N, std::size_t M>
bool should_stream(const View& view, const Operands<T, N, M>& tensors) {
  constexpr Index large = Index(M == 1 ? 8 : 32) << 20;
  for (const auto& elements : tensors.in) {
    if (elements.data == tensors.out[0].data) return false;
  }
  for (std::size_t t = 1; t < M; ++t) {
    if (tensors.out[t].data != nullptr) return false;
  }
  return view.size() * bytes_of<T> >= large;
}

/// Primitive 1 over a tensor, with S as the type of short sums: algebra(c, channels, sums, coefficients) sets the
/// coefficients of the channels from c on, for write(tile, prefetches, coefficients), a pass that follows. `workspace`
/// is a Workspace, or NoWorkspace; `fused` says whether an extended kernel writes.
template <class S, class T, class Device, class Memory, class Algebra, class Write>
void accumulate_moments(const Device& device, const View& view, const Elements<const T>& x, Memory& workspace,
                        const Algebra& algebra, const Write& write, bool fused = false) {
  using A = accumulator_t<T>;
  using Sums = MomentSums<A>;
  const Isa isa = best_isa();
  const auto accumulate = [&](const Tile& tile, const Prefetches& prefetches, const Sums& sums) {
    run_kernel<AccumulateMoments<S>, T>(isa, view, tile, x, prefetches.x, sums);
  };
  const auto merge = [](const Sums& total, Index n, const Sums& more, Index k, Index channels) {
    merge_sums(total, number<A>(n), more, number<A>(k), channels);
  };
  run_two_passes(device, view, work_of_sums<T>(device, view, {x}, fused), !std::is_same_v<Write, NoPass>,
                 two_passes<Sums, NormalizeArrays<A>>(accumulate, merge, algebra, write), workspace);
}

/// Primitive 2 over one tile, by coefficients of its channels.
template <class T>
void normalize(const View& view, const Tile& tile, const Prefetches& prefetches,
               const NormalizeArrays<accumulator_t<T>>& coefficients, const Operands<T, 1>& x_to_y) {
  const Access access{should_stream(view, x_to_y), prefetches};
  run_elementwise(view, tile, x_to_y, [&](const View& v, const Tile& t, Index c, const Operands<T, 1>& tensors) {
    run_kernel<Normalize, T>(best_isa(), v, t, from_channel(coefficients, c), tensors, access);
  });
}

/// A pass that writes, straight through memory: write(tile, prefetches). `work` says how much is read.
template <class Device, class Write>
void write_elements(const Device& device, const View& view, const Work& work, const Write& write) {
  const Tiling tiling = Tiling::for_elements(view, work);
  const Prefetch prefetch = prefetch_elements(view, traffic_of(work), tiling.blocks.count);
  one_pass(device, work.threads, tiling, [&](const Tile& tile) { write(tile, Prefetches{prefetch, prefetch}); });
}

/// Primitive 2 over a tensor; coefficients_of(tile, f) calls f with those of the tile's channels.
template <class T, class Device, class CoefficientsOf>
void normalize(const Device& device, const View& view, const Operands<T, 1>& x_to_y,
               const CoefficientsOf& coefficients_of) {
  write_elements(device, view, work_on<T>(device, view, 1), [&](const Tile& tile, const Prefetches& prefetches) {
    coefficients_of(tile, [&](const NormalizeArrays<accumulator_t<T>>& coefficients) {
      normalize(view, tile, prefetches, coefficients, x_to_y);
    });
  });
}

/// Primitive 3 over a tensor, as accumulate_moments: accumulate(tile, prefetches, sums) is a kernel for it.
template <class T, class Device, class Accumulate, class Algebra, class Write>
void accumulate_gradients(const Device& device, const View& view, const Work& work,
                          Workspace<accumulator_t<T>>& workspace, const Accumulate& accumulate, const Algebra& algebra,
                          const Write& write) {
  using A = accumulator_t<T>;
  using Sums = GradientSumArrays<A>;
  const auto merge = [](const Sums& total, Index, const Sums& more, Index, Index channels) {
    merge_sums(total, more, channels);
  };
  run_two_passes(device, view, work, !std::is_same_v<Write, NoPass>,
                 two_passes<Sums, GradientArrays<A>>(accumulate, merge, algebra, write), workspace);
}

/// Its kernel over one tile, about means that are or are not x's own.
template <class T>
void accumulate_gradients(const View& view, const Tile& tile, const Prefetches& prefetches, const Elements<const T>& x,
                          const Elements<const T>& dy, const accumulator_t<T>* means, bool own_means,
                          const GradientSumArrays<accumulator_t<T>>& sums) {
  run_kernel<AccumulateGradients, T>(best_isa(), view, tile, x, dy, means, own_means, prefetches, sums);
}

/// Primitive 4 over one tile, by coefficients of its channels; x and dy are read.
template <class T>
void apply_gradients(const View& view, const Tile& tile, const Prefetches& prefetches,
                     const GradientArrays<accumulator_t<T>>& coefficients, const Operands<T, 2>& tensors) {
  const Access access{should_stream(view, tensors), prefetches};
  run_elementwise(view, tile, tensors, [&](const View& v, const Tile& t, Index c, const Operands<T, 2>& operands) {
    run_kernel<ApplyGradients, T>(best_isa(), v, t, from_channel(coefficients, c), operands, access);
  });
}

/// Primitive 4 over a tensor, by coefficients of all channels.
template <class T, class Device>
void apply_gradients(const Device& device, const View& view, const Operands<T, 2>& tensors,
                     const GradientArrays<accumulator_t<T>>& coefficients) {
  write_elements(device, view, work_on<T>(device, view, 2), [&](const Tile& tile, const Prefetches& prefetches) {
    apply_gradients(view, tile, prefetches, from_channel(coefficients, tile.channel_begin), tensors);
  });
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_PRIMITIVES_HPP
