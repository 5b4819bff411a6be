// expects: batchnorm: a pointer does not say how many values there are

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  batchnorm::FrozenBatchNorm<float>(3).set_weight(x.data());
}
