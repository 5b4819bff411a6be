// A program of several units: one trains, and this one looks at the result. x is 1, 2, 3, 4 in both channels, of
// mean 2.5 and unbiased variance 5 / 3.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstdio>

void train(batchnorm::BatchNorm<float, 2>& bn, const Eigen::Tensor<float, 2>& x);

int main() {
  batchnorm::BatchNorm<float, 2> bn(batchnorm::BatchNormOptions(2).epsilon(0).momentum(1.0));
  Eigen::Tensor<float, 2> x(4, 2);
  for (int i = 0; i < 8; ++i) x.data()[i] = static_cast<float>(i % 4 + 1);
  train(bn, x);
  const Eigen::Tensor<float, 2> y = bn.infer(x);
  const double expected = -1.5 / std::sqrt(5.0 / 3);
  for (int c = 0; c < 2; ++c) {
    if (!(std::abs(static_cast<double>(y(0, c)) - expected) < 1e-6)) {
      std::printf("channel %d: expected %.9g, got %.9g\n", c, expected, static_cast<double>(y(0, c)));
      return 1;
    }
  }
}
