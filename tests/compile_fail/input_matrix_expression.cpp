// expects: batchnorm: a matrix has 2 axes, and the layer's tensors have another number of them (Dims): write
// Eigen::TensorMap<

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  const Eigen::MatrixXf matrix(2, 3);
  const Eigen::DefaultDevice device;
  bn.infer(device, matrix * 2, y);
}
