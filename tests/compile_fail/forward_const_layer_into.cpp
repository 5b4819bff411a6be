// expects: batchnorm: forward changes the layer, after eval() too, and this layer is const: call infer

#include <batchnorm/batchnorm.hpp>

int main() {
  const batchnorm::BatchNorm<float, 3> shared(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  const Eigen::DefaultDevice device;
  shared.forward(device, x, y);
}
