// A program whose units leave the kernels to one of them.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstdio>

namespace {

// Trains a layer of two channels on 1, 2, ..., 12 and returns how far its results are from what they should be.
template <class T>
double error() {
  Eigen::Tensor<T, 2> x(6, 2), dy(6, 2);
  for (int i = 0; i < 12; ++i) x.data()[i] = T(static_cast<float>(i + 1));
  dy.setZero();
  dy(0, 0) = dy(0, 1) = T(1.0f);
  batchnorm::BatchNorm<T, 2> bn(batchnorm::BatchNormOptions(2).epsilon(0));
  const Eigen::Tensor<T, 2> y = bn.forward(x), dx = bn.backward(x, dy), z = bn.infer(x);
  const double expected_y = -2.5 / std::sqrt(35.0 / 12),
               expected_dx = (5.0 / 6 - 2.5 * 2.5 * 2 / 35) / std::sqrt(35.0 / 12);
  double worst = 0;
  for (int c = 0; c < 2; ++c) {
    worst = std::fmax(worst, std::abs(static_cast<double>(static_cast<float>(y(0, c))) - expected_y));
    worst = std::fmax(worst, std::abs(static_cast<double>(static_cast<float>(dx(0, c))) - expected_dx));
  }
  const double expected_z = (1 - 0.35) / std::sqrt(0.9 + 0.35);
  return std::fmax(worst, std::abs(static_cast<double>(static_cast<float>(z(0, 0))) - expected_z));
}

bool good(const char* type, double off, double allowed) {
  std::printf("%s is off by %g\n", type, off);
  return off <= allowed;
}

}  // namespace

int main() {
  bool all_good = good("float", error<float>(), 1e-6);
  all_good = good("double", error<double>(), 1e-6) && all_good;
  all_good = good("half", error<Eigen::half>(), 1e-3) && all_good;
  return good("bfloat16", error<Eigen::bfloat16>(), 1e-2) && all_good ? 0 : 1;
}
