// expects: batchnorm: the device is the first argument: forward(device, x)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  const Eigen::DefaultDevice device;
  auto z = bn.forward(x, device);
}
