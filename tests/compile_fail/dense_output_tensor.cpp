// expects: batchnorm: input and result are to be both tensors, or both matrices (or arrays): write an Eigen::Map or an
// Eigen::TensorMap of one of them

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  Eigen::Tensor<float, 2> tensor(2, 3);
  bn.forward(x, tensor);
}
