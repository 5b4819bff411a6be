// The running statistics of a layer, as a value.

#ifndef BATCHNORM_RUNNING_STATISTICS_HPP
#define BATCHNORM_RUNNING_STATISTICS_HPP

#include <cstdint>

#include "batchnorm/detail/interface/eigen.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// What a BatchNorm knows of the batches it was trained on, as `running_stats()` gives it and `set_running_stats()`
/// takes it: a copy, which the layer's later batches leave alone. One layer can serve several domains by a bank of
/// these:
///
///     std::vector<batchnorm::RunningStatistics<float>> domains(2, bn.running_stats());
///     bn.set_running_stats(domains[0]);
///     bn.forward(x);  // a batch of the first domain
///     domains[0] = bn.running_stats();
///
/// `P` is the type of the layer's parameters: float for layers of float and of the 16-bit types, else the layer's
/// scalar.
template <class P>
struct RunningStatistics {
  /// The running mean, [channels]; empty for a layer without running statistics.
  Eigen::Tensor<P, 1> running_mean;
  /// The running variance, biased or not as the layer's options say, [channels]; empty for a layer without.
  Eigen::Tensor<P, 1> running_var;
  /// How many batches these have seen.
  std::int64_t num_batches_tracked = 0;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_RUNNING_STATISTICS_HPP
