// What goes with a tensor's scalar type: the types of its sums, parameters and computation.

#ifndef BATCHNORM_DETAIL_SIMD_SCALAR_HPP
#define BATCHNORM_DETAIL_SIMD_SCALAR_HPP

#include <type_traits>

#include "batchnorm/detail/interface/eigen.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T>
inline constexpr bool is_16_bit = std::is_same_v<T, Eigen::half> || std::is_same_v<T, Eigen::bfloat16>;

/// Scalars that have vector kernels. All others are computed one by one, by their own operators.
template <class T>
inline constexpr bool is_vectorized = std::is_same_v<T, float> || std::is_same_v<T, double> || is_16_bit<T>;

/// The type of sums, statistics and per-channel algebra for tensors of T.
template <class T>
using accumulator_t = std::conditional_t<is_vectorized<T>, double, T>;

/// The type in which a batch's moments are summed, a few values at a time. The 16-bit types' results are the exact ones
/// rounded, whatever cancels in them, which takes all digits there are.
template <class T>
using summand_t = std::conditional_t<is_16_bit<T>, double, T>;

/// The type of parameters, running statistics and gradients of parameters.
template <class T>
using param_t = std::conditional_t<is_16_bit<T>, float, T>;

/// The type in which y and dx are computed, element by element, before they are rounded to T: for the 16-bit types one
/// in which no cancellation shows, so that they are the exact values rounded. (Where there are instructions for it,
/// pairs of floats are as good: float_pairs.hpp.)
template <class T>
using compute_t = std::conditional_t<is_16_bit<T>, double, T>;

/// A scalar as another. Eigen's 16-bit types convert to and from float alone.
template <class To, class From>
BATCHNORM_ALWAYS_INLINE To convert(const From& value) {
  if constexpr (is_16_bit<To>) {
    return To(static_cast<float>(value));
  } else if constexpr (is_16_bit<From>) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class T, class = void>
inline constexpr bool wraps_scalar = false;
template <class T>
inline constexpr bool wraps_scalar<T, std::void_t<typename T::Scalar>> = true;

/// A count or a setting as a T. Of types that add something to a narrower one (an AutoDiffScalar of floats), by way of
/// that.
template <class T, class N>
BATCHNORM_ALWAYS_INLINE T number(N value) {
  if constexpr (wraps_scalar<T>) {
    return T(number<typename T::Scalar>(value));
  } else {
    return static_cast<T>(static_cast<double>(value));
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_SCALAR_HPP
