// expects: batchnorm: expected one real number per channel, got complex ones

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.set_running_mean(Eigen::VectorXcf(3));
}
