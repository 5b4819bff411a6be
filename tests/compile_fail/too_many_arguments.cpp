// expects: batchnorm: too many arguments: the calls are forward(x) and forward(x, y)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.forward(x, y, y);
}
