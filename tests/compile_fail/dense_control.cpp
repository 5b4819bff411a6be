// Compiles: the other files of this beginning break one line of this one.

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  bn.forward(x);
  bn.forward(x, y);
  bn.forward(x, y.topRows(2));
  bn.infer(x * x.transpose() * x, Eigen::Map<Eigen::MatrixXf>(y.data(), 2, 3));
  bn.backward(x, dy + dy, y.array());
}
