// The four primitives over whole tensors: a kernel, the partition, and the caller's threads.

#ifndef BATCHNORM_DETAIL_PRIMITIVES_HPP
#define BATCHNORM_DETAIL_PRIMITIVES_HPP

#include "batchnorm/detail/algebra/batch_norm.hpp"
#include "batchnorm/detail/kernels/instances.hpp"
#include "batchnorm/detail/schedule/passes.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T>
Index bytes_of(const View& view) {
  return view.size() * static_cast<Index>(sizeof(T));
}

/// Whether an output is so large that it is better not left in the cache; in place it is there already.
template <class T>
bool should_stream(const View& view, bool in_place) {
  constexpr Index large = Index(8) << 20;
  return !in_place && bytes_of<T>(view) >= large;
}

/// Primitive 1 over a tensor, with S as the type of short sums: between(c, channels, sums, terms) sets the terms of the
/// channels from c on, for second(tile, terms, ahead), a pass that follows. `workspace` may be null, at the cost of
/// threads that share no channel's work.
template <class S, class T, class Device, class Between, class Second>
void accumulate_moments(const Device& device, const View& view, const T* x, Workspace<accumulator_t<T>>* workspace,
                        const Between& between, const Second& second) {
  using Sums = MomentSums<accumulator_t<T>>;
  using Terms = NormalizeTerms<accumulator_t<T>>;
  const Isa isa = best_isa();
  const Index threads = usable_threads(device, bytes_of<T>(view));
  two_passes<Sums, Terms>(
      device, threads, Partition::for_sums(view, sizeof(T), 1, threads), view.channels, workspace,
      [&](const Tile& tile, const Sums& sums, const Ahead&) {
        run_kernel<AccumulateMoments<S>, T>(isa, view, tile, x, sums);
      },
      [](const Sums& total, Index n, const Sums& more, Index k, Index channels) {
        merge_sums(total, n, more, k, channels);
      },
      between, second);
}

/// Primitive 2 over one tile.
template <class T>
void normalize(const View& view, const Tile& tile, const NormalizeTerms<accumulator_t<T>>& terms, const T* x, T* y,
               const Ahead& ahead) {
  run_kernel<Normalize, T>(best_isa(), view, tile, terms, x, y, Access{should_stream<T>(view, x == y), ahead});
}

/// Primitive 2 over a tensor; set_terms(c, channels, terms) sets those of the channels from c on.
template <class T, class Device, class SetTerms>
void normalize(const Device& device, const View& view, const T* x, T* y, const SetTerms& set_terms) {
  const Index threads = usable_threads(device, bytes_of<T>(view));
  const Partition partition = Partition::for_elements(view, sizeof(T), threads);
  one_pass(device, threads, partition, [&](const Tile& tile) {
    TileQuantities<NormalizeTerms<accumulator_t<T>>> terms;
    set_terms(tile.channel_begin, tile.channels(), terms.all());
    normalize(view, tile, terms.all(), x, y, partition.ahead());
  });
}

/// Primitive 3 over a tensor, as accumulate_moments, about means that are or are not x's own.
template <class T, class Device, class Between, class Second>
void accumulate_gradients(const Device& device, const View& view, const T* x, const T* dy,
                          const accumulator_t<T>* means, bool own_means, Workspace<accumulator_t<T>>* workspace,
                          const Between& between, const Second& second) {
  using Sums = ProductSums<accumulator_t<T>>;
  using Terms = GradientTerms<accumulator_t<T>>;
  const Isa isa = best_isa();
  const Index threads = usable_threads(device, 2 * bytes_of<T>(view));
  two_passes<Sums, Terms>(
      device, threads, Partition::for_sums(view, sizeof(T), 2, threads), view.channels, workspace,
      [&](const Tile& tile, const Sums& sums, const Ahead& ahead) {
        run_kernel<AccumulateGradients, T>(isa, view, tile, x, dy, means, own_means, ahead, sums);
      },
      [](const Sums& total, Index, const Sums& more, Index, Index channels) { merge_sums(total, more, channels); },
      between, second);
}

/// Primitive 4 over one tile.
template <class T>
void apply_gradients(const View& view, const Tile& tile, const GradientTerms<accumulator_t<T>>& terms, const T* x,
                     const T* dy, T* dx, const Ahead& ahead) {
  const Access access{should_stream<T>(view, dx == x || dx == dy), ahead};
  run_kernel<ApplyGradients, T>(best_isa(), view, tile, terms, x, dy, dx, access);
}

/// Primitive 4 over a tensor; set_terms(c, channels, terms) sets those of the channels from c on.
template <class T, class Device, class SetTerms>
void apply_gradients(const Device& device, const View& view, const T* x, const T* dy, T* dx,
                     const SetTerms& set_terms) {
  const Index threads = usable_threads(device, 2 * bytes_of<T>(view));
  const Partition partition = Partition::for_elements(view, sizeof(T), threads);
  one_pass(device, threads, partition, [&](const Tile& tile) {
    TileQuantities<GradientTerms<accumulator_t<T>>> terms;
    set_terms(tile.channel_begin, tile.channels(), terms.all());
    apply_gradients(view, tile, terms.all(), x, dy, dx, partition.ahead());
  });
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_PRIMITIVES_HPP
