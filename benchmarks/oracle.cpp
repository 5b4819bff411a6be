#include "oracle.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace bench {
namespace {

using Channels = std::vector<double>;

// f(index into the tensor, channel) over the whole tensor.
template <class F>
void for_each(const Problem& problem, F f) {
  const bool channels_first = problem.layout == Layout::nchw;
  const Index inner = channels_first ? problem.shape.inner() : 1;
  const Index channels = problem.shape.channels;
  const Index outer = problem.shape.size() / (channels * inner);
  std::size_t at = 0;
  for (Index o = 0; o < outer; ++o)
    for (Index c = 0; c < channels; ++c)
      for (Index i = 0; i < inner; ++i) f(at++, static_cast<std::size_t>(c));
}

// The largest difference, relative to the largest expected value.
template <class Value>
double error(const float* actual, const std::vector<Value>& wanted) {
  double largest = 0, difference = 0;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
    const double d = std::abs(static_cast<double>(actual[i]) - static_cast<double>(wanted[i]));
    if (!(d <= difference)) difference = std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
  }
  return difference == 0 ? 0 : difference / largest;
}

}  // namespace

Expected expected(const Problem& problem, Pass pass) {
  const auto channels = static_cast<std::size_t>(problem.shape.channels);
  const double count = static_cast<double>(problem.shape.size()) / static_cast<double>(channels);
  const float* x = problem.x.data();
  const float* dy = problem.dy.data();

  Channels mean(problem.running_mean.begin(), problem.running_mean.end());
  Channels variance(problem.running_var.begin(), problem.running_var.end());
  if (pass != Pass::infer) {
    std::fill(mean.begin(), mean.end(), 0);
    std::fill(variance.begin(), variance.end(), 0);
    for_each(problem, [&](std::size_t i, std::size_t c) { mean[c] += double{x[i]} / count; });
    for_each(problem, [&](std::size_t i, std::size_t c) { variance[c] += std::pow(x[i] - mean[c], 2) / count; });
  }
  Channels inv_std(channels), scale(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    inv_std[c] = 1 / std::sqrt(variance[c] + problem.epsilon);
    scale[c] = problem.weight[c] * inv_std[c];
  }

  Expected expected;
  expected.result.resize(static_cast<std::size_t>(problem.shape.size()));
  if (pass != Pass::backward) {
    for_each(problem, [&](std::size_t i, std::size_t c) {
      expected.result[i] = static_cast<float>((x[i] - mean[c]) * scale[c] + problem.bias[c]);
    });
    return expected;
  }
  expected.weight_grad.assign(channels, 0);
  expected.bias_grad.assign(channels, 0);
  for_each(problem, [&](std::size_t i, std::size_t c) {
    expected.weight_grad[c] += dy[i] * (x[i] - mean[c]) * inv_std[c];
    expected.bias_grad[c] += double{dy[i]};
  });
  for_each(problem, [&](std::size_t i, std::size_t c) {
    const double x_hat = (x[i] - mean[c]) * inv_std[c];
    expected.result[i] = static_cast<float>(
        (dy[i] - expected.bias_grad[c] / count - x_hat * (expected.weight_grad[c] / count)) * scale[c]);
  });
  return expected;
}

std::string disagreement(const Problem& problem, const Contender& contender, const Expected& expected) {
  // Far above what rounding does to this data in any of them (sums of 4e5 floats in a row), far below any mistake.
  const double tolerance = 1e-3;
  std::memset(problem.out.data(), 0xff, static_cast<std::size_t>(problem.out.size()) * sizeof(float));  // NaN
  if (contender.prepare) contender.prepare();
  contender.run();
  const float* result = contender.result ? contender.result() : problem.out.data();

  double worst = error(result, expected.result);
  if (contender.gradients) {
    const Gradients gradients = contender.gradients();
    if (gradients.weight.size() != expected.weight_grad.size() || gradients.bias.size() != expected.bias_grad.size())
      return "its gradients have the wrong size";
    worst = std::max({worst, error(gradients.weight.data(), expected.weight_grad),
                      error(gradients.bias.data(), expected.bias_grad)});
  }
  return worst <= tolerance ? "" : "it is off by " + std::to_string(worst) + " of the largest expected value";
}

}  // namespace bench
