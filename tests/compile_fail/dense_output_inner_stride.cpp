// expects: batchnorm: the result can only be written to a matrix, array, map, block or Ref whose columns, or rows if it
// is row-major, lie in memory without gaps

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  float memory[12];
  bn.forward(x, Eigen::Map<Eigen::MatrixXf, 0, Eigen::Stride<4, 2>>(memory, 2, 3));
}
