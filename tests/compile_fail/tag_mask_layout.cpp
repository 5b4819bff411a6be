// expects: batchnorm: the layout of the mask or weights differs from that of x

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  Eigen::Tensor<bool, 2, Eigen::RowMajor> m(2, 4);
  bn.forward(x, batchnorm::mask(m));
}
