// expects: batchnorm: the scalar of affine(weight, bias) differs from the layer's Param

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  Eigen::VectorXd weight(3), bias(3);
  bn.forward(x, batchnorm::affine(weight, bias));
}
