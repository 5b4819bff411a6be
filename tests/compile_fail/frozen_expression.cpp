// expects: batchnorm: apply reads x from memory, where an expression is not

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  bn.apply(x + x, y);
}
