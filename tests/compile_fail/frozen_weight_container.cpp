// expects: batchnorm: expected the values of all channels as something with data() and size()

#include <batchnorm/frozen_batch_norm.hpp>
#include <list>

int main() {
  const batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x(2, 3), y(2, 3);
  batchnorm::FrozenBatchNorm<float>(3).set_weight(std::list<float>(3));
}
