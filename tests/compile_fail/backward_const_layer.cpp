// expects: batchnorm: backward adds to the gradients of the layer, and this layer is const

#include <batchnorm/batchnorm.hpp>

int main() {
  const batchnorm::BatchNorm<float, 3> shared(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  auto dx = shared.backward(x, dy);
  dy = dx;
}
