// The layer behind run.hpp, for the source file of each type.

#ifndef BATCHNORM_TESTS_EXACTNESS_RUN_IMPL_HPP
#define BATCHNORM_TESTS_EXACTNESS_RUN_IMPL_HPP

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cstddef>

#include "run.hpp"

// Eigen's 16-bit types convert to and from float alone.
template <class T>
T from_double(double value) {
  if constexpr (sizeof(T) == 2) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
double to_double(const T& value) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}

template <class T, int Layout, class Device>
Outcome run_on(const Device& device, const Problem& p) {
  using Layer = batchnorm::BatchNorm<T, 3>;
  using Param = typename Layer::Param;
  using Map = Eigen::TensorMap<Eigen::Tensor<T, 3, Layout>>;
  const Regime& r = p.regime;
  const auto offset = static_cast<std::size_t>(p.misalignment);
  std::vector<T> x(r.size() + offset), dy(r.size() + offset), out(r.size() + offset);
  std::transform(p.x.begin(), p.x.end(), x.begin() + p.misalignment, from_double<T>);
  std::transform(p.dy.begin(), p.dy.end(), dy.begin() + p.misalignment, from_double<T>);
  const auto map = [&](std::vector<T>& values) {
    const bool rows = Layout == Eigen::RowMajor;
    return Map(values.data() + offset, rows ? r.outer : r.inner, r.channels, rows ? r.inner : r.outer);
  };

  Layer bn(batchnorm::BatchNormOptions(r.channels)
               .epsilon(p.epsilon)
               .momentum(p.momentum)
               .running_variance(p.unbiased ? batchnorm::Variance::unbiased : batchnorm::Variance::biased));
  const auto set = [](auto& vector, const std::vector<double>& values) {
    for (std::size_t c = 0; c < values.size(); ++c) {
      vector(static_cast<Eigen::Index>(c)) = static_cast<Param>(values[c]);
    }
  };
  set(bn.weight(), p.weight);
  set(bn.bias(), p.bias);
  set(bn.running_mean(), p.running_mean);
  set(bn.running_var(), p.running_var);
  bn.train(p.training);

  const auto values = [&] {
    std::vector<double> result(r.size());
    std::transform(out.begin() + p.misalignment, out.end(), result.begin(), to_double<T>);
    return result;
  };
  const auto vector = [](const auto& from) {
    std::vector<double> result;
    for (Eigen::Index c = 0; c < from.size(); ++c) result.push_back(static_cast<double>(from(c)));
    return result;
  };
  const auto x_map = map(x), dy_map = map(dy);
  Outcome result;
  bn.forward(device, x_map, map(out));
  result.y = values();
  bn.backward(device, x_map, dy_map, map(out));
  result.dx = values();
  result.running_mean = vector(bn.running_mean());
  result.running_var = vector(bn.running_var());
  result.weight_grad = vector(bn.weight_grad());
  result.bias_grad = vector(bn.bias_grad());
  return result;
}

template <class T>
Outcome run_as(const Problem& p) {
  const auto with = [&](const auto& device) {
    return p.regime.col_major ? run_on<T, Eigen::ColMajor>(device, p) : run_on<T, Eigen::RowMajor>(device, p);
  };
  if (p.threads == 0) return with(Eigen::DefaultDevice());
  Eigen::ThreadPool pool(p.threads);
  return with(Eigen::ThreadPoolDevice(&pool, p.threads));
}

#endif  // BATCHNORM_TESTS_EXACTNESS_RUN_IMPL_HPP
