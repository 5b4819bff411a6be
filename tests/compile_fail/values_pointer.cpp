// expects: batchnorm: a pointer does not tell how many values it points to: hand in Eigen::Map<const
// Eigen::VectorXf>(pointer, channels)

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.set_weight(x.data());
}
