// How far a layer's results are from the exact ones.

#ifndef BATCHNORM_TESTS_EXACTNESS_MEASURE_HPP
#define BATCHNORM_TESTS_EXACTNESS_MEASURE_HPP

#include <ostream>

#include "data_sets.hpp"

/// The largest errors over all channels, each on the scale that its promise has: of y and the running statistics
/// relative to the largest exact value of the channel, of dx to |weight| inv_std max|dy|, of weight_grad and bias_grad
/// to the largest of all channels; but y and dx of the 16-bit types in ulps of the exact value. Infinite where a result
/// is NaN or differs from an exact 0.
struct Errors {
  double y = 0, running_mean = 0, running_var = 0, dx = 0, weight_grad = 0, bias_grad = 0;

  void take_larger(const Errors& other);
};

std::ostream& operator<<(std::ostream& out, const Errors& errors);

/// A data set with its exact results.
struct Solved {
  Solved() = default;
  explicit Solved(DataSet data);

  /// Adds the other's channels to these.
  void append(const Solved& other);

  DataSet set;
  std::vector<exact::Result> results;
  std::vector<exact::Scales> scales;
};

/// Of an outcome of tile(regime, set.channels).
Errors errors(Scalar type, const Solved& solved, const Regime& regime, const Outcome& outcome);

#endif  // BATCHNORM_TESTS_EXACTNESS_MEASURE_HPP
