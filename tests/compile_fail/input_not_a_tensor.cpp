// expects: batchnorm: expected an Eigen

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::MatrixXf x(2, 3);
  bn.forward(x);
}
