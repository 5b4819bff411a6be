// expects: batchnorm: a weight and a bias are written to: expected matrices, vectors or tensors in memory, or blocks or
// maps of them, and no expression

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf W(3, 2);
  Eigen::VectorXf b(3);
  bn.fold_into(W + W, b);
}
