// expects: batchnorm: integers cannot hold normalized values

#include <batchnorm/batchnorm.hpp>

int main() {
  Eigen::Tensor<int, 2> x(4, 3), dy(4, 3), dx(4, 3);
  batchnorm::apply_gradients(x, dy, 1, {}, dx);
}
