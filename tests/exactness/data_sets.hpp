// Inputs on which batch normalization is commonly wrong.

#ifndef BATCHNORM_TESTS_EXACTNESS_DATA_SETS_HPP
#define BATCHNORM_TESTS_EXACTNESS_DATA_SETS_HPP

#include <vector>

#include "run.hpp"

/// A few channels of one kind: the same in every type but for rounding, and different from each other in values,
/// weight and bias, so that a mixed-up channel shows.
struct DataSet {
  std::string name;
  std::vector<exact::Channel> channels;

  std::int64_t values_per_channel() const { return static_cast<std::int64_t>(channels.front().x.size()); }
};

std::vector<DataSet> data_sets(Scalar type);

/// Every way in which kernels walk over a tensor, for so many values per channel.
std::vector<Regime> regimes(std::int64_t values_per_channel);

#endif  // BATCHNORM_TESTS_EXACTNESS_DATA_SETS_HPP
