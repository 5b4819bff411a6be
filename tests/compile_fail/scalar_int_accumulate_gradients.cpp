// expects: batchnorm: integers cannot hold normalized values

#include <batchnorm/batchnorm.hpp>

int main() {
  Eigen::Tensor<int, 2> x(4, 3), dy(4, 3);
  batchnorm::accumulate_gradients(x, dy, 1, {}, {});
}
