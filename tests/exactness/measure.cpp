#include "measure.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

// What to a type is beyond its range, and what is lost by rounding once to its smallest numbers, which is no error of
// ours.
struct Limits {
  long double beyond, lost;

  explicit Limits(Scalar type)
      : beyond(static_cast<long double>(largest(type)) + static_cast<long double>(ulp(type, largest(type))) / 2),
        lost(static_cast<long double>(ulp(type, 0)) / 2) {}
};

void take(double& largest_error, const Limits& limits, double found, long double exact, long double scale) {
  if (std::abs(exact) >= limits.beyond) {
    if (!(std::isinf(found) && (found > 0) == (exact > 0))) largest_error = infinity;
    return;
  }
  const long double difference = std::abs(static_cast<long double>(found) - exact);
  const double error = difference <= limits.lost ? 0 : static_cast<double>(difference / scale);
  if (!(error <= largest_error)) largest_error = std::isnan(error) ? infinity : error;
}

void take_ulps(double& largest_error, Scalar type, const Limits& limits, double found, long double exact,
               long double slack) {
  const bool negligible = std::abs(static_cast<long double>(found) - exact) <= slack;
  if (!negligible) {
    take(largest_error, limits, found, exact, static_cast<long double>(ulp(type, static_cast<double>(exact))));
  }
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
  const Limits limits(type), param(param_of(type));
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
    take(e.running_mean, param, outcome.running_mean[i], exact.running_mean, scale.running_mean);
    take(e.running_var, param, outcome.running_var[i], exact.running_var, scale.running_var);
    take(e.weight_grad, param, outcome.weight_grad[i], exact.weight_grad, weight_grads);
    take(e.bias_grad, param, outcome.bias_grad[i], exact.bias_grad, bias_grads);
    for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
      const std::size_t at = regime.at(c, k);
      const long double y = exact.y[static_cast<std::size_t>(k)], dx = exact.dx[static_cast<std::size_t>(k)];
      if (is_16_bit(type)) {
        // In ulps, less what the computation in double may lose where the exact value cancels to next to nothing.
        take_ulps(e.y, type, limits, outcome.y[at], y, 1e-13L * scale.y);
        take_ulps(e.dx, type, limits, outcome.dx[at], dx, 1e-13L * scale.dx);
      } else {
        take(e.y, limits, outcome.y[at], y, scale.y);
        take(e.dx, limits, outcome.dx[at], dx, scale.dx);
      }
    }
  }
  return e;
}
