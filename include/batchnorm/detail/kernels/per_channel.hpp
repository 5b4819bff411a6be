// Quantities of neighbouring channels, an array for each, so that packs of channels are computed at once.

#ifndef BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP
#define BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP

#include "batchnorm/detail/schedule/partition.hpp"
#include "batchnorm/detail/simd/scalar.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// N arrays with an element for each channel, in memory that is someone else's. Kinds of quantities derive from it and
/// name them.
template <class A, int N>
struct PerChannel {
  using Scalar = A;
  static constexpr int count = N;
  A* arrays[N];
};

/// The arrays of some quantities in memory for `channels` channels.
template <class Quantities>
Quantities quantities_in(typename Quantities::Scalar* memory, Index channels) {
  Quantities result;
  for (int i = 0; i < Quantities::count; ++i) result.arrays[i] = memory + i * channels;
  return result;
}

/// The arrays from channel c on.
template <class Quantities>
Quantities from_channel(Quantities quantities, Index c) {
  for (int i = 0; i < Quantities::count; ++i) quantities.arrays[i] += c;
  return quantities;
}

/// Memory for the quantities of one tile.
template <class Quantities>
struct TileQuantities {
  typename Quantities::Scalar memory[Quantities::count * max_columns];

  Quantities all() { return quantities_in<Quantities>(memory, max_columns); }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP
