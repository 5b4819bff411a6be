// The kernels where there are no registers to name: as plain loops (BATCHNORM_PORTABLE) and on other processors.
// Without Catch2, so that a cross compiler can build it. Compares with the oracle in long double, for every regime of
// shapes.

#include <batchnorm/batchnorm.hpp>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <type_traits>

#include "../oracle.hpp"

namespace {

int failures = 0;

void check(const std::string& what, long double error, long double bound) {
  if (error <= bound) return;  // also false for NaN
  std::printf("FAILED: %s is off by %Lg, allowed are %Lg\n", what.c_str(), error, bound);
  ++failures;
}

template <class T>
long double real(const T& value) {
  return batchnorm::detail::convert<double>(value);
}

template <class T>
long double error(const Eigen::Tensor<T, 3, Eigen::RowMajor>& found, const oracle::Reals& exact) {
  long double most = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) most = std::max(most, std::fabs(real(found.data()[i]) - exact[i]));
  return most;
}

// `bound`: half a unit in the last place of T for what is rounded to it, and as much again for what led to it; relative
// to the largest y, and for dx to the largest dy / std, before what it is the difference of cancels.
template <class T>
void compare(const std::string& name, long double bound) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  // Rows, columns of short rows, channels-last, fewer elements than a register, a ragged everything.
  for (const auto& [n, c, s] :
       {std::array<int, 3>{3, 5, 300}, {9, 7, 49}, {33, 70, 1}, {2, 3, 1}, {1, 2, 1000}, {5, 3, 17}}) {
    Eigen::Tensor<T, 3, Eigen::RowMajor> x(n, c, s), dy(n, c, s);
    oracle::Reals exact_x, exact_dy;
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      x.data()[i] = T(uniform(random) + 2.0F);
      dy.data()[i] = T(uniform(random));
      exact_x.push_back(real(x.data()[i]));
      exact_dy.push_back(real(dy.data()[i]));
    }
    const oracle::Geometry geometry{{n, c, s}, true, 1};
    oracle::Layer exact({}, c);
    const auto exact_y = exact.forward(geometry, exact_x), exact_dx = exact.backward(geometry, exact_x, exact_dy);
    batchnorm::BatchNorm<T, 3> bn(c);
    const auto y = bn.forward(x);
    const auto dx = bn.backward(x, dy);
    const std::string shape =
        name + " [" + std::to_string(n) + ", " + std::to_string(c) + ", " + std::to_string(s) + "] ";
    long double largest_y = 0, largest_dy = 0;
    oracle::for_each_element(geometry, [&](std::size_t channel, std::size_t i) {
      largest_y = std::max(largest_y, std::fabs(exact_y[i]));
      largest_dy = std::max(largest_dy, std::fabs(exact_dy[i]) * exact.inv_std(channel));
    });
    check(shape + "y", error(y, exact_y) / largest_y, bound);
    check(shape + "dx", error(dx, exact_dx) / largest_dy, bound);
    for (int channel = 0; channel < c; ++channel) {
      const auto at = static_cast<std::size_t>(channel);
      const auto differ = [&](const auto& found, const oracle::Reals& wanted) {
        return std::fabs(real(found(channel)) - wanted[at]) / std::max(1.0L, std::fabs(wanted[at]));
      };
      check(shape + "weight_grad", differ(bn.weight_grad(), exact.weight_grad), 1e-5L);
      check(shape + "running_mean", differ(bn.running_mean(), exact.running_mean), 1e-6L);
      check(shape + "running_var", differ(bn.running_var(), exact.running_var), 1e-6L);
    }
  }
}

}  // namespace

int main() {
  compare<float>("float", 3e-7L);
  compare<double>("double", 5e-14L);
  compare<Eigen::half>("half", 4.9e-4L);
  compare<Eigen::bfloat16>("bfloat16", 3.92e-3L);
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
