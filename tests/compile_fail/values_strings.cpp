// expects: batchnorm: expected one value per channel, got elements that are no real numbers

#include <batchnorm/batchnorm.hpp>

#include <vector>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), y(2, 3, 4);
  bn.set_running_var(std::vector<std::vector<float>>(3));
}
