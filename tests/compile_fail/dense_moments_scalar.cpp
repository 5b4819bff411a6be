// expects: batchnorm: integers cannot hold normalized values: use float or double

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  batchnorm::Moments(3).add(Eigen::MatrixXi(2, 3));
}
