// expects: batchnorm: expected one value per channel, in an Eigen vector or tensor of rank 1, a std::vector, or
// anything with begin() and end() or with data() and size(); for the same value in every channel write
// weight().setConstant(value)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.set_weight(1.0F);
}
