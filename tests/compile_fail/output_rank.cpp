// expects: batchnorm: the rank of the result differs from the input's

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  Eigen::Tensor<float, 2> flat(2, 3);
  bn.forward(x, flat);
}
