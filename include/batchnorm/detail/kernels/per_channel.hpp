// Quantities of neighbouring channels, an array for each, so that packs of channels are computed at once.

#ifndef BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP
#define BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP

#include "batchnorm/detail/kernels/tile.hpp"
#include "batchnorm/detail/simd/scalar.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// N arrays with an element for each channel, in memory that is someone else's. The sums and coefficients below derive
/// from it and name them.
template <class A, int N>
struct PerChannel {
  using Scalar = A;
  static constexpr int count = N;
  A* arrays[static_cast<std::size_t>(N)];
};

/// The arrays of some quantities in memory for `channels` channels.
template <class Quantities>
Quantities quantities_in(typename Quantities::Scalar* memory, Index channels) {
  Quantities result;
  for (int i = 0; i < Quantities::count; ++i) result.arrays[i] = memory + i * channels;
  return result;
}

/// The arrays from channel c on. One that may be missing, and is null, stays so.
template <class Quantities>
Quantities from_channel(Quantities quantities, Index c) {
  for (int i = 0; i < Quantities::count; ++i) {
    if (quantities.arrays[i] != nullptr) quantities.arrays[i] += c;
  }
  return quantities;
}

/// Primitive 1's sums over some of a channel's values: of their deviations from a pivot, and of those squared.
template <class A>
struct MomentSums : PerChannel<A, 3> {
  A* pivot() const { return this->arrays[0]; }
  A* sum() const { return this->arrays[1]; }
  A* squares() const { return this->arrays[2]; }
};

/// Primitive 2's coefficients: y = (x - mean - mean_residual) * scale + shift. Without residuals mean_residual is null.
template <class A>
struct NormalizeArrays : PerChannel<A, 4> {
  A* mean() const { return this->arrays[0]; }
  A* mean_residual() const { return this->arrays[1]; }
  A* scale() const { return this->arrays[2]; }
  A* shift() const { return this->arrays[3]; }
};

/// Primitive 3's sums: of dy, of (dy - dy_pivot) * (x - mean) and of x - mean. The last is not always taken:
/// OtherSums.
template <class A>
struct GradientSumArrays : PerChannel<A, 4> {
  A* dy_pivot() const { return this->arrays[0]; }
  A* dy() const { return this->arrays[1]; }
  A* products() const { return this->arrays[2]; }
  A* x() const { return this->arrays[3]; }
};

/// Primitive 4's coefficients: dx = ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale. No x is farther
/// from the mean than max_deviation, which changes no more than the rounding; null or 0 is for unknown.
template <class A>
struct GradientArrays : PerChannel<A, 6> {
  A* mean_dy() const { return this->arrays[0]; }
  A* mean() const { return this->arrays[1]; }
  A* mean_residual() const { return this->arrays[2]; }
  A* projection() const { return this->arrays[3]; }
  A* scale() const { return this->arrays[4]; }
  A* max_deviation() const { return this->arrays[5]; }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_PER_CHANNEL_HPP
