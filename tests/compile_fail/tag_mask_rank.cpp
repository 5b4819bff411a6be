// expects: batchnorm: expected a mask or weights for each sample, in a tensor of rank 1

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  Eigen::Tensor<bool, 3> m(2, 3, 4);
  bn.forward(x, batchnorm::mask(m));
}
