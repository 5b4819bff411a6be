// expects: batchnorm: apply takes pointers to FrozenBatchNorm's scalar, dense Eigen objects

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  double in[3], out[3];
  bn.apply(in, out, [](const auto& a) { return a; });
}
