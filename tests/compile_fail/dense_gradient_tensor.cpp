// expects: batchnorm: x and dy are to be both tensors, or both matrices (or arrays): write an Eigen::Map or an
// Eigen::TensorMap of one of them

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  const Eigen::Tensor<float, 2> tensor(2, 3);
  bn.backward(x, tensor);
}
