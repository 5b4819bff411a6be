// Seeded random numbers that are the same with every standard library: the engine is fixed by the C++ standard, the
// distributions of <random> are not, so these few are written out.

#ifndef WHY_BATCH_NORM_RANDOM_HPP
#define WHY_BATCH_NORM_RANDOM_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

namespace why_batch_norm {

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  // Uniform in [0, 1): the top 53 bits of the engine's output.
  double uniform() { return static_cast<double>(engine_() >> 11) * 0x1.0p-53; }

  // Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  // Normal with mean 0 and deviation 1 (Box and Muller's transform; its second value is not used).
  double normal() {
    constexpr double two_pi = 6.283185307179586;
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
    return radius * std::cos(two_pi * uniform());
  }

  // Uniform in 0, 1, ..., count - 1.
  std::size_t below(std::size_t count) { return static_cast<std::size_t>(uniform() * static_cast<double>(count)); }

  // Every order is equally likely (Fisher and Yates).
  template <typename Value>
  void shuffle(std::vector<Value>& values) {
    for (std::size_t left = values.size(); left > 1; --left) std::swap(values[left - 1], values[below(left)]);
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_RANDOM_HPP
