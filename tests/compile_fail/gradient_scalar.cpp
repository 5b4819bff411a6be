// expects: batchnorm: the scalar type of the tensor or matrix differs from the layer's T: use x.cast<T>(), or a layer

#include <batchnorm/batchnorm.hpp>

int main() {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::Tensor<float, 3> x(2, 3, 4), dy(2, 3, 4), y(2, 3, 4);
  Eigen::Tensor<double, 3> wide(2, 3, 4);
  bn.backward(x, wide);
}
