// expects: batchnorm: a weight and a bias are written to: expected no constant or temporary ones

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  const Eigen::MatrixXf W(3, 2);
  Eigen::VectorXf b(3);
  bn.fold_into(W, b);
}
