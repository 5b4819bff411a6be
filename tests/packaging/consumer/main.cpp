// What every consumer builds, however it got the library: a training step and an inference, checked a little.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstdio>

int main() {
  batchnorm::BatchNorm<float, 4> bn(3);
  Eigen::Tensor<float, 4, Eigen::RowMajor> x(4, 3, 5, 5);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i % 17);

  const auto y = bn.forward(x);
  const auto dx = bn.backward(x, y);
  bn.eval();
  const auto z = bn.forward(x);

  float sum = 0;
  for (Eigen::Index i = 0; i < y.size(); ++i) sum += y.data()[i];
  if (std::abs(sum) > 1e-3f) return 1;
  if (dx.size() != x.size() || z.size() != x.size() || bn.num_batches_tracked() != 1) return 2;
  std::printf("batchnorm %d.%d.%d with Eigen %d.%d.%d\n", BATCHNORM_VERSION_MAJOR, BATCHNORM_VERSION_MINOR,
              BATCHNORM_VERSION_PATCH, EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION);
  return 0;
}
