// A unit of a program, compiled several times, each with its own instruction set and its own UNIT. It uses the library
// and much of what it brings along.

#include <batchnorm/batchnorm.hpp>

#include "unit.hpp"

Result UNIT(const float* data) {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  const Eigen::TensorMap<const Tensor> x(data, unit_samples, unit_channels, unit_height, unit_width);
  batchnorm::BatchNorm<float, 4> bn(batchnorm::BatchNormOptions(unit_channels).momentum(0.3));
  const Tensor y = bn.forward(x);
  const Tensor dx = bn.backward(x, y);
  const Tensor z = bn.infer(x);

  Result result;
  for (const Tensor* part : {&y, &dx, &z})
    result.values.insert(result.values.end(), part->data(), part->data() + x.size());
  for (const auto* part : {&bn.running_mean(), &bn.running_var(), &bn.weight_grad(), &bn.bias_grad()}) {
    result.values.insert(result.values.end(), part->data(), part->data() + part->size());
  }
  return result;
}
