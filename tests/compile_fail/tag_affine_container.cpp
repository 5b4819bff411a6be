// expects: batchnorm: expected affine(weight, bias) in Eigen tensors of rank 1

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  std::vector<float> w(2, 1.0F);
  bn.forward(x, batchnorm::affine(w, w));
}
