// What is measured on: the shapes, their layouts and passes, and the names that benchmarks have by them.

#ifndef BATCHNORM_BENCHMARKS_CASES_HPP
#define BATCHNORM_BENCHMARKS_CASES_HPP

#include <string>
#include <vector>

#include "contenders.hpp"

namespace bench {

struct Case {
  std::string set;
  Shape shape;
  Layout layout;
  std::vector<Pass> passes;
};

std::vector<Case> all_cases();
std::vector<Case> quick_cases();  // a few small ones: that everything runs, not how fast

std::string name(Pass pass);
std::string name(Layout layout);
std::string name(const Shape& shape);  // always in the order N, C, H, W, however it lies in memory

// SET/LAYOUT/SHAPE/PASS/THREADS/, to which a contender adds its own name.
std::string group_name(const Case& c, Pass pass, int threads);

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_CASES_HPP
