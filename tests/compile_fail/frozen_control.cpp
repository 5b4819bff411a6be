// Compiles: each of the other files named frozen_... breaks one line like these.

#include <batchnorm/frozen_batch_norm.hpp>

int main() {
  batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  bn.apply(x, y);
  bn.apply(x, y, [](const auto& a) { return a; });
  bn.set_weight(Eigen::VectorXf(3));
}
