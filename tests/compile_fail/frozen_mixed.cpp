// expects: batchnorm: apply takes x and y both as dense Eigen objects, or both as tensors of the same rank

#include <batchnorm/frozen_batch_norm.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  Eigen::Tensor<float, 2> tensor(2, 3);
  bn.apply(x, tensor);
}
