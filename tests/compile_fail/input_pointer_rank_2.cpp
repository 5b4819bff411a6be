// expects: batchnorm: a pointer does not tell the shape of what it points to: write Eigen::Map<const
// Eigen::MatrixXf>(pointer, n, c)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::Tensor<float, 2> x(2, 3), y(2, 3);
  auto z = bn.forward(x.data());
}
