// What is computed at every instruction set to see how results differ.

#ifndef BATCHNORM_TESTS_EXACTNESS_ISA_PROBLEMS_HPP
#define BATCHNORM_TESTS_EXACTNESS_ISA_PROBLEMS_HPP

#include "data_sets.hpp"

struct IsaProblem {
  Scalar type;
  DataSet set;
  Regime regime;

  Problem problem() const { return tile(regime, set.channels); }
};

inline std::vector<IsaProblem> isa_problems() {
  std::vector<IsaProblem> problems;
  for (const Scalar type : all_scalars) {
    for (const auto& set : data_sets(type)) {
      if (set.values_per_channel() != 1568) continue;
      for (auto regime : regimes(1568)) {
        if (regime.channels > 20) continue;
        regime.channels = 3;
        problems.push_back({type, set, regime});
      }
    }
  }
  return problems;
}

#endif  // BATCHNORM_TESTS_EXACTNESS_ISA_PROBLEMS_HPP
