// expects: batchnorm: the layout of the result differs from the input's (RowMajor or ColMajor)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(2, 3);
  bn.forward(x, rows);
}
