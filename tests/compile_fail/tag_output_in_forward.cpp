// expects: batchnorm: forward and infer take residual(r), mask(m), sample_weight(w) and affine(weight, bias)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4);
  bn.forward(x, batchnorm::output(dy));
}
