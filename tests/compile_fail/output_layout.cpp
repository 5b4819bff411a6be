// expects: batchnorm: the layout of the result differs from the input's (RowMajor or ColMajor)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  Eigen::Tensor<float, 3, Eigen::RowMajor> other(2, 3, 4);
  bn.forward(x, other);
}
