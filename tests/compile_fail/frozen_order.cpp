// expects: batchnorm: the storage order of y differs from that of x

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  bn.apply(x.transpose(), y);
}
