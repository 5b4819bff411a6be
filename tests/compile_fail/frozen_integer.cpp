// expects: batchnorm: integers cannot hold normalized values: use float or double

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  batchnorm::FrozenBatchNorm<int> integers(3);
}
