// expects: batchnorm: expected an Eigen tensor: a Tensor, TensorFixedSize, TensorMap

#include <batchnorm/batchnorm.hpp>

#include <vector>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  const std::vector<std::vector<float>> values(2);
  auto z = bn.forward(values);
}
