// expects: batchnorm: the scalar type of x or y differs from that of FrozenBatchNorm

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  bn.apply(Eigen::MatrixXd(2, 3), y);
}
