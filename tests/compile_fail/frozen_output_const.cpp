// expects: batchnorm: the result of apply cannot be written to a constant, a temporary or an expression

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  const Eigen::MatrixXf& constant = y;
  bn.apply(x, constant);
}
