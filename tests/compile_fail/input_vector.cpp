// expects: batchnorm: a container does not tell the shape of a tensor: write Eigen::TensorMap<const
// Eigen::Tensor<float, 4, Eigen::RowMajor>>(values.data(), n, c, h, w)

#include <batchnorm/batchnorm.hpp>

#include <vector>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  const std::vector<float> values(24);
  auto z = bn.forward(values);
}
