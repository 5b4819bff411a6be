// expects: batchnorm: expected a tensor of rank 1, a value for each channel

#include <batchnorm/frozen_batch_norm.hpp>
#include <unsupported/Eigen/CXX11/Tensor>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  batchnorm::FrozenBatchNorm<float>(3).set_weight(Eigen::Tensor<float, 2>(3, 1));
}
