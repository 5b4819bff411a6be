// Compiles: each of the other files in this folder breaks one line of this one.

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  const Eigen::DefaultDevice device;
  bn.forward(x);
  bn.forward(x, y);
  bn.forward(device, x, y);
  bn.forward(x, Eigen::TensorMap<Eigen::Tensor<float, 3>>(y.data(), 2, 3, 4));
  bn.infer(x + x, y);
  const batchnorm::BatchNorm<float, 3>& shared = bn;
  Eigen::Tensor<float, 3> z = shared.infer(x);
  shared.infer(device, x, y);
  bn.backward(x, dy);
  bn.backward(x, dy + dy, y);
}
