// expects: batchnorm: integers cannot hold normalized values

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<bool, 2> bn(3);
  Eigen::Tensor<bool, 2> x(4, 3), dy(4, 3);
  bn.forward(x);
  bn.infer(x, x);
  bn.backward(x, dy);
}
