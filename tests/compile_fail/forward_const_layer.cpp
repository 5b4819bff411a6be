// expects: batchnorm: forward changes the layer, after eval() too, and this layer is const: call infer

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4);
  bn.eval();
  const batchnorm::BatchNorm<float, 3>& shared = bn;
  Eigen::Tensor<float, 3> y = shared.forward(x);
}
