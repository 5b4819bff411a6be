// expects: batchnorm: the rank of the tensor differs from the layer's Dims

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  Eigen::Tensor<float, 2> flat(2, 3);
  bn.backward(x, flat);
}
