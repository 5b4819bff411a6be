// expects: batchnorm: the scalar type of the result differs from the input's

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  Eigen::MatrixXd wider(2, 3);
  bn.forward(x, wider);
}
