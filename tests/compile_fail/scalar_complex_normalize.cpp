// expects: batchnorm: complex numbers cannot be normalized

#include <batchnorm/batchnorm.hpp>

int main() {
  Eigen::Tensor<std::complex<double>, 2> x(4, 3), y(4, 3);
  batchnorm::normalize(x, 1, {}, y);
}
