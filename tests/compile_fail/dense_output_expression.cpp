// expects: batchnorm: the result can only be written to a matrix, array, map, block or Ref whose columns, or rows if it
// is row-major, lie in memory without gaps

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  bn.forward(x, y + y);
}
