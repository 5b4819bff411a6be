// expects: batchnorm: complex numbers cannot be normalized

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BasicMoments<std::complex<double>> moments(3);
  Eigen::Tensor<std::complex<double>, 2> x(4, 3);
  moments.add(x);
  moments.variance();
}
