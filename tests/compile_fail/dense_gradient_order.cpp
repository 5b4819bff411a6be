// expects: batchnorm: the layout of dy differs from that of x (RowMajor or ColMajor)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  bn.backward(x, dy.transpose());
}
