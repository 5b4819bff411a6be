// expects: batchnorm: too many arguments: the calls are backward(x, dy) and backward(x, dy, dx)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.backward(x, y, y, bn.saved_statistics(), y);
}
