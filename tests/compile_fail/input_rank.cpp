// expects: batchnorm: the rank of the tensor differs from the layer's Dims

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 4> x(2, 3, 4, 5);
  bn.forward(x);
}
