// What the units and the program they make up agree on.

#ifndef BATCHNORM_TESTS_PACKAGING_UNIT_HPP
#define BATCHNORM_TESTS_PACKAGING_UNIT_HPP

#include <vector>

constexpr int unit_samples = 6, unit_channels = 5, unit_height = 7, unit_width = 9;
constexpr int unit_size = unit_samples * unit_channels * unit_height * unit_width;

struct Result {
  std::vector<float> values;
};

Result unit_base(const float* data);
Result unit_avx2(const float* data);
Result unit_avx512(const float* data);

#endif  // BATCHNORM_TESTS_PACKAGING_UNIT_HPP
