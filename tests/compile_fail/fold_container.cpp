// expects: batchnorm: expected a bias, as an Eigen vector or a tensor of rank 1 (of a pointer or a container an
// Eigen::Map), or axes, as a number or batchnorm::WeightAxes

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf W(3, 2);
  std::vector<float> b(3);
  bn.fold_into(W, b);
}
