// expects: batchnorm: the result can only be written to a matrix or array of Eigen's, a block or a map

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  bn.forward(x, Eigen::half());
}
