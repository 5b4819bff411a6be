// expects: batchnorm: a call takes a mask(m) or a sample_weight(w), not both

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  std::vector<float> w(2, 1.0F);
  bn.forward(x, batchnorm::mask(w), batchnorm::sample_weight(w));
}
