// expects: batchnorm: the scalar type of the tensor or matrix differs from the layer's T: use x.cast<T>(), or a layer
// of that type

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::MatrixXf x(2, 3), dy(2, 3), y(2, 3);
  const Eigen::MatrixXi integers(2, 3);
  bn.forward(integers);
}
