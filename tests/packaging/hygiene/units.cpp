// Runs the same layer in units compiled for different processors and compares what they say.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <vector>

#include "unit.hpp"

namespace {

bool agree(const char* name, const Result& expected, const Result& actual) {
  float worst = expected.values.size() == actual.values.size() ? 0.0f : INFINITY;
  for (std::size_t i = 0; i < std::min(expected.values.size(), actual.values.size()); ++i) {
    worst = std::max(worst, std::abs(expected.values[i] - actual.values[i]));
  }
  std::printf("%s differs from the base unit by at most %g\n", name, static_cast<double>(worst));
  // Values are of order 1 to 100, and both sides owe 1e-6 of the largest.
  return worst < 1e-3f;
}

}  // namespace

int main() {
  std::vector<float> data(unit_size);
  unsigned state = 1;
  for (float& value : data) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 16777216.0f + 10.0f;
  }
  const Result base = unit_base(data.data());
  bool good = true;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    good = agree("-mavx2 -mfma", base, unit_avx2(data.data())) && good;
  }
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd")) {
    good = agree("-march=skylake-avx512", base, unit_avx512(data.data())) && good;
  }
  return good ? 0 : 1;
}
