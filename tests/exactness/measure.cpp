#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void take(double& largest, double found, long double exact, long double scale, double overflow) {
  // Beyond the type's range infinity is the right answer.
  if (std::abs(exact) >= static_cast<long double>(overflow)) {
    if (!(std::isinf(found) && (found > 0) == (exact > 0))) largest = infinity;
    return;
  }
  const long double difference = std::abs(static_cast<long double>(found) - exact);
  const double error = difference == 0 ? 0 : static_cast<double>(difference / scale);
  if (!(error <= largest)) largest = std::isnan(error) ? infinity : error;
}

}  // namespace

void Errors::take_larger(const Errors& other) {
  y = std::max(y, other.y);
  running_mean = std::max(running_mean, other.running_mean);
  running_var = std::max(running_var, other.running_var);
  dx = std::max(dx, other.dx);
  weight_grad = std::max(weight_grad, other.weight_grad);
  bias_grad = std::max(bias_grad, other.bias_grad);
}

std::ostream& operator<<(std::ostream& out, const Errors& e) {
  return out << "y " << e.y << ", running_mean " << e.running_mean << ", running_var " << e.running_var << ", dx "
             << e.dx << ", weight_grad " << e.weight_grad << ", bias_grad " << e.bias_grad;
}

Solved::Solved(DataSet data) : set(std::move(data)) {
  for (const auto& channel : set.channels) {
    // 50 digits are plenty for values of one magnitude.
    results.push_back(exact::solve(channel, channel.x.size() > 10000 ? 50 : 100));
    scales.push_back(exact::scales(channel, results.back()));
  }
}

void Solved::append(const Solved& other) {
  set.channels.insert(set.channels.end(), other.set.channels.begin(), other.set.channels.end());
  results.insert(results.end(), other.results.begin(), other.results.end());
  scales.insert(scales.end(), other.scales.begin(), other.scales.end());
}

Errors errors(Scalar type, const Solved& solved, const Regime& regime, const Outcome& outcome) {
  const double overflow =
      type == Scalar::float64 ? infinity : static_cast<double>(std::numeric_limits<float>::max()) * (1 + 0x1p-25);
  long double weight_grads = 0, bias_grads = 0;
  for (const auto& result : solved.results) {
    weight_grads = std::max(weight_grads, std::abs(result.weight_grad));
    bias_grads = std::max(bias_grads, std::abs(result.bias_grad));
  }
  Errors e;
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    const auto i = static_cast<std::size_t>(c), kind = i % solved.results.size();
    const exact::Result& exact = solved.results[kind];
    const exact::Scales& scale = solved.scales[kind];
    take(e.running_mean, outcome.running_mean[i], exact.running_mean, scale.running_mean, overflow);
    take(e.running_var, outcome.running_var[i], exact.running_var, scale.running_var, overflow);
    take(e.weight_grad, outcome.weight_grad[i], exact.weight_grad, weight_grads, overflow);
    take(e.bias_grad, outcome.bias_grad[i], exact.bias_grad, bias_grads, overflow);
    for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
      const std::size_t at = regime.at(c, k);
      take(e.y, outcome.y[at], exact.y[static_cast<std::size_t>(k)], scale.y, overflow);
      take(e.dx, outcome.dx[at], exact.dx[static_cast<std::size_t>(k)], scale.dx, overflow);
    }
  }
  return e;
}
