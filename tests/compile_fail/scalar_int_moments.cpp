// expects: batchnorm: integers cannot hold normalized values

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::Moments moments(3);
  Eigen::Tensor<int, 2> x(4, 3);
  moments.add(x);
  moments.variance();
}
