// expects: batchnorm: the result cannot be written to a constant or temporary tensor

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  Eigen::TensorMap<const Eigen::Tensor<float, 3>> map(y.data(), 2, 3, 4);
  bn.infer(x, map);
}
