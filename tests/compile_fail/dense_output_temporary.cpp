// expects: batchnorm: the result cannot be written to a constant or temporary tensor or matrix

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  bn.forward(x, Eigen::MatrixXf(2, 3));
}
