// expects: batchnorm: the tensor's scalar type differs from the layer's T

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<double, 3> x(2, 3, 4);
  bn.forward(x);
}
