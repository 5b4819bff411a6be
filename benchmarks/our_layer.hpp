// The library, as its user calls it: tensor maps over the caller's memory, on the caller's device.

#ifndef BATCHNORM_BENCHMARKS_OUR_LAYER_HPP
#define BATCHNORM_BENCHMARKS_OUR_LAYER_HPP

#include <algorithm>
#include <memory>
#include <vector>

#include "contenders.hpp"

namespace bench {

template <int Rank>
Eigen::array<Index, Rank> dimensions(const Problem& problem) {
  const Shape& s = problem.shape;
  if constexpr (Rank == 2) {
    return {s.samples, s.channels};
  } else if (problem.layout == Layout::nchw) {
    return {s.samples, s.channels, s.height, s.width};
  } else {
    return {s.samples, s.height, s.width, s.channels};
  }
}

template <class Vector>
void assign(Vector& vector, const std::vector<float>& values) {
  std::copy(values.begin(), values.end(), vector.data());
}

template <class Vector>
std::vector<float> values(const Vector& vector) {
  return {vector.data(), vector.data() + vector.size()};
}

template <int Rank, class Device>
Contender our_layer(const Device& device, const char* who, const Problem& problem, Pass pass) {
  using Layer = batchnorm::BatchNorm<float, Rank>;
  using Map = Eigen::TensorMap<Eigen::Tensor<float, Rank, Eigen::RowMajor>>;
  using ConstMap = Eigen::TensorMap<const Eigen::Tensor<float, Rank, Eigen::RowMajor>>;

  const ConstMap x(problem.x.data(), dimensions<Rank>(problem));
  const ConstMap dy(problem.dy.data(), dimensions<Rank>(problem));
  Map out(problem.out.data(), dimensions<Rank>(problem));

  auto bn = std::make_shared<Layer>(batchnorm::BatchNormOptions(problem.shape.channels)
                                        .epsilon(problem.epsilon)
                                        .momentum(problem.momentum)
                                        .channel_axis(problem.layout == Layout::nhwc ? -1 : 1));
  assign(bn->weight(), problem.weight);
  assign(bn->bias(), problem.bias);
  assign(bn->running_mean(), problem.running_mean);
  assign(bn->running_var(), problem.running_var);

  Contender contender;
  contender.name = who;
  if (pass == Pass::forward) {
    contender.run = [=]() mutable { bn->forward(device, x, out); };
  } else if (pass == Pass::infer) {
    contender.run = [=]() mutable { bn->infer(device, x, out); };
  } else {
    bn->forward(x, out);
    contender.run = [=]() mutable { bn->backward(device, x, dy, out); };
    contender.prepare = [bn] { bn->zero_grad(); };
    contender.gradients = [bn] { return Gradients{values(bn->weight_grad()), values(bn->bias_grad())}; };
  }
  return contender;
}

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_OUR_LAYER_HPP
