// expects: batchnorm: a container does not tell the shape of a matrix: write Eigen::Map<const
// Eigen::MatrixXf>(values.data(), n, c)

#include <batchnorm/batchnorm.hpp>

#include <vector>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::Tensor<float, 2> x(2, 3), y(2, 3);
  const std::vector<float> values(6);
  auto z = bn.infer(values);
}
