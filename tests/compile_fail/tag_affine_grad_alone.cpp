// expects: batchnorm: affine_grad(dweight, dbias) goes with affine(weight, bias)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  Eigen::VectorXf dweight(3), dbias(3);
  bn.backward(x, dy, batchnorm::affine_grad(dweight, dbias));
}
