// expects: batchnorm: expected an Eigen tensor, or an Eigen device that runs on the CPU and then a tensor

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.forward(3, x);
}
