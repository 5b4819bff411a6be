// One training or inference step of a layer of any of the vectorized types, behind an interface without templates:
// every number that goes in or comes out is held in a double, exactly.

#ifndef BATCHNORM_TESTS_EXACTNESS_RUN_HPP
#define BATCHNORM_TESTS_EXACTNESS_RUN_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "exact.hpp"

enum class Scalar { float32, float64, float16, bfloat16 };
constexpr Scalar all_scalars[] = {Scalar::float32, Scalar::float64, Scalar::float16, Scalar::bfloat16};

inline bool is_16_bit(Scalar type) { return type == Scalar::float16 || type == Scalar::bfloat16; }
/// Of parameters and running statistics.
inline Scalar param_of(Scalar type) { return is_16_bit(type) ? Scalar::float32 : type; }

const char* name_of(Scalar type);

/// The nearest number of the type, infinity beyond its range.
double rounded(Scalar type, double value);

/// The largest and the smallest normal number.
double largest(Scalar type);
double smallest_normal(Scalar type);

/// The spacing of the type's numbers at a value: that between it and the next one away from 0.
double ulp(Scalar type, double value);

/// How a tensor lies in memory: [outer, channels, inner] in row-major order, handed to the layer as a RowMajor tensor
/// of these extents or as a ColMajor tensor of the reverse, which kernels should not tell apart.
struct Regime {
  std::string name;
  std::int64_t outer, channels, inner;
  bool col_major = false;

  std::int64_t values_per_channel() const { return outer * inner; }
  std::size_t size() const { return static_cast<std::size_t>(outer * channels * inner); }
  /// Where the k-th value of a channel lies.
  std::size_t at(std::int64_t channel, std::int64_t k) const {
    return static_cast<std::size_t>((k / inner * channels + channel) * inner + k % inner);
  }
};

struct Problem {
  Regime regime;
  std::vector<double> x, dy;                                    // as they lie in memory
  std::vector<double> weight, bias, running_mean, running_var;  // of each channel
  double epsilon = 1e-5, momentum = 0.1;
  bool unbiased = true, training = true;
  int threads = 0;                // of a ThreadPoolDevice; 0 for the DefaultDevice
  std::int64_t misalignment = 0;  // of all tensors, in elements
};

struct Outcome {
  std::vector<double> y, dx;
  std::vector<double> running_mean, running_var, weight_grad, bias_grad;
};

/// Forward and backward through a fresh layer.
Outcome run(Scalar type, const Problem& problem);

/// A tensor whose channels are the given ones, again and again. All have the first one's settings.
Problem tile(const Regime& regime, const std::vector<exact::Channel>& channels);

#endif  // BATCHNORM_TESTS_EXACTNESS_RUN_HPP
