// expects: batchnorm: complex numbers cannot be normalized

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<std::complex<float>, 2> bn(3);
  Eigen::Tensor<std::complex<float>, 2> x(4, 3), dy(4, 3);
  bn.forward(x);
  bn.infer(x, x);
  bn.backward(x, dy);
}
