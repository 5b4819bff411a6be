// Batch normalization in double, by the formula, to see that what is timed is the right thing.

#ifndef BATCHNORM_BENCHMARKS_ORACLE_HPP
#define BATCHNORM_BENCHMARKS_ORACLE_HPP

#include <string>
#include <vector>

#include "contenders.hpp"

namespace bench {

struct Expected {
  std::vector<float> result;  // y or dx
  std::vector<double> weight_grad, bias_grad;
};

Expected expected(const Problem& problem, Pass pass);

// Runs the contender once. Empty if its result is the expected one, else how far it is off.
std::string disagreement(const Problem& problem, const Contender& contender, const Expected& expected);

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_ORACLE_HPP
