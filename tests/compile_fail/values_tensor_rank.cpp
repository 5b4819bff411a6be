// expects: batchnorm: expected one value per channel, in a tensor of rank 1

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.set_bias(x);
}
