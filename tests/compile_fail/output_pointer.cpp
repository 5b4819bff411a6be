// expects: batchnorm: a pointer does not tell the shape of what it points to: write Eigen::TensorMap<
// container's memory write Eigen::TensorMap<

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.forward(x, y.data());
}
