// A program whose units leave the kernels to one of them.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstdio>
#include <type_traits>

namespace {

// Trains a layer of two channels on 1, 2, ..., 12 and says whether its results are what they should be, within
// `allowed`: a few units in the last place of T, as results are below 2.
template <class T>
bool good(const char* type, double allowed) {
  Eigen::Tensor<T, 2> x(6, 2), dy(6, 2);
  for (int i = 0; i < 12; ++i) x.data()[i] = T(static_cast<float>(i + 1));
  for (int i = 0; i < 12; ++i) dy.data()[i] = T(i % 6 == 0 ? 1.0f : 0.0f);
  batchnorm::BatchNorm<T, 2> bn(batchnorm::BatchNormOptions(2).epsilon(0));
  const Eigen::Tensor<T, 2> y = bn.forward(x), dx = bn.backward(x, dy), z = bn.infer(x);

  const double deviation = std::sqrt(35.0 / 12);
  const double expected_y = -2.5 / deviation, expected_dx = (5.0 / 6 - 2.5 * 2.5 * 2 / 35) / deviation,
               expected_z = (1 - 0.35) / std::sqrt(0.9 + 0.35);
  bool all_good = true;
  const auto check = [&](const char* what, T got, double expected) {
    const double value = std::is_same<T, double>::value ? static_cast<double>(got) : static_cast<float>(got);
    const bool near = std::abs(value - expected) <= allowed;  // false for NaN
    if (!near) std::printf("%s: expected %s to be %.17g, got %.17g\n", type, what, expected, value);
    all_good = all_good && near;
  };
  for (int c = 0; c < 2; ++c) {
    check("y", y(0, c), expected_y);
    check("dx", dx(0, c), expected_dx);
  }
  check("inference", z(0, 0), expected_z);
  return all_good;
}

}  // namespace

int main() {
  const bool all_good[] = {good<float>("float", 1e-6), good<double>("double", 1e-13), good<Eigen::half>("half", 1e-3),
                           good<Eigen::bfloat16>("bfloat16", 1e-2)};
  for (const bool one : all_good) {
    if (!one) return 1;
  }
}
