// expects: batchnorm: backward takes the x of the forward too, of which the layer keeps no copy: backward(x, dy)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  auto dx = bn.backward(y);
}
