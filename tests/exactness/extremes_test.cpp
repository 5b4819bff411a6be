// Every number from one end of its type's range to the other: what is in range comes out right, what is out of range
// comes out infinite, of the right sign, whatever overflows on the way.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "../catch.hpp"
#include "run.hpp"

namespace {

struct Numbers {
  std::mt19937_64 engine{2026};

  double uniform(double least, double most) { return std::uniform_real_distribution<double>(least, most)(engine); }
  bool one_in(int n) { return engine() % static_cast<unsigned>(n) == 0; }

  // Of the type: usual, tiny, huge, or of any size.
  double size(Scalar type) {
    const double least = std::log2(smallest_normal(type)) - 6, most = std::log2(largest(type));
    const double exponents[] = {uniform(-2, 2), uniform(least, 0.75 * least), uniform(0.8 * most, most),
                                uniform(most - 1, most), uniform(least, most)};
    return rounded(type, std::min(std::exp2(exponents[engine() % 5]), largest(type)));
  }
  double any(Scalar type) { return one_in(12) ? 0 : one_in(2) ? size(type) : -size(type); }
};

exact::Channel extreme_channel(Scalar type, Numbers& numbers, std::size_t n, bool training) {
  const Scalar param = param_of(type);
  exact::Channel channel;
  channel.batch_statistics = training;
  channel.running_mean = numbers.any(param);
  channel.running_var = numbers.size(param);
  channel.weight = numbers.any(param);
  channel.bias = numbers.any(param);
  // Values of any size each, or about one, or of one size and either sign: the largest differences there are.
  const unsigned kind = static_cast<unsigned>(numbers.engine() % 3);
  const double size = numbers.any(type), gradient = numbers.any(type);
  for (std::size_t i = 0; i < n; ++i) {
    const double about = rounded(type, size * numbers.uniform(0.5, 1)), either = numbers.one_in(2) ? size : -size;
    channel.x.push_back(kind == 0 ? numbers.any(type) : kind == 1 ? about : either);
    channel.dy.push_back(kind == 0   ? numbers.any(type)
                         : kind == 1 ? rounded(type, gradient * numbers.uniform(-1, 1))
                                     : (numbers.one_in(2) ? gradient : -gradient));
  }
  return channel;
}

// Whether a result of a type is the exact one but for an error, or infinite where that may be out of range.
bool is_right(Scalar type, double result, long double exact, long double error) {
  const auto most = static_cast<long double>(largest(type));
  if (std::isnan(result)) return false;
  if (std::isinf(result)) return (result > 0) == (exact > 0) && std::abs(exact) + error >= most;
  return std::abs(static_cast<long double>(result) - exact) <= error;
}

// The rounding to the type, half a digit and a thousandth, and of what cancels in the result its last digits in the
// type of the computation: a float's for floats, more than 44 bits for 16-bit types. Of a
// batch's statistics the errors are relative to the largest values of the channel.
long double allowed(Scalar type, long double exact, long double terms, long double largest_terms) {
  if (is_16_bit(type)) {
    return 0.501L * static_cast<long double>(ulp(type, static_cast<double>(exact))) + largest_terms * 0x1p-44L;
  }
  return terms * 0x1p-21L + largest_terms * 0x1p-22L + 0x1p-149L;
}

void check_extremes(Scalar type, bool training, const Regime& regime, double epsilon) {
  Numbers numbers;
  std::vector<exact::Channel> channels;
  const auto n = static_cast<std::size_t>(regime.values_per_channel());
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    channels.push_back(extreme_channel(type, numbers, n, training));
    channels.back().epsilon = epsilon;
  }
  Problem problem = tile(regime, channels);
  problem.training = training;
  problem.epsilon = epsilon;
  const Outcome outcome = run(type, problem);
  const Scalar param = param_of(type);
  for (std::size_t c = 0; c < channels.size(); ++c) {
    const exact::Channel& channel = channels[c];
    const exact::Result exact = exact::solve(channel);
    const long double weight = std::abs(static_cast<long double>(channel.weight)), r = exact.inv_std;
    const auto count = static_cast<long double>(n);
    long double mean = 0, sum_dy = 0, sum_products = 0;
    for (std::size_t i = 0; i < n; ++i) mean += static_cast<long double>(channel.x[i]) / count;
    if (!training) mean = channel.running_mean;
    long double sum_of_sizes = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const long double deviation = static_cast<long double>(channel.x[i]) - mean;
      sum_of_sizes += std::abs(static_cast<long double>(channel.dy[i]));
      sum_dy += static_cast<long double>(channel.dy[i]);
      sum_products += std::abs(static_cast<long double>(channel.dy[i]) * deviation * r);
    }
    std::vector<long double> y_terms(n), dx_terms(n);
    for (std::size_t i = 0; i < n; ++i) {
      const long double deviation = std::abs(static_cast<long double>(channel.x[i]) - mean) * r;
      y_terms[i] = deviation * weight + std::abs(static_cast<long double>(channel.bias));
      dx_terms[i] = std::abs(static_cast<long double>(channel.dy[i])) * weight * r;
      if (training) dx_terms[i] += (std::abs(sum_dy) + deviation * sum_products) / count * weight * r;
    }
    const long double most_y = training ? *std::max_element(y_terms.begin(), y_terms.end()) : 0;
    const long double most_dx = training ? *std::max_element(dx_terms.begin(), dx_terms.end()) : 0;
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = regime.at(static_cast<std::int64_t>(c), static_cast<std::int64_t>(i));
      const auto y_error = allowed(type, exact.y[i], y_terms[i], std::max(y_terms[i], most_y));
      const auto dx_error = allowed(type, exact.dx[i], dx_terms[i], std::max(dx_terms[i], most_dx));
      const bool y = is_right(type, outcome.y[at], exact.y[i], y_error);
      const bool dx = is_right(type, outcome.dx[at], exact.dx[i], dx_error);
      if (!y || !dx) {
        CAPTURE(c, i, channel.x[i], channel.dy[i], channel.running_mean, channel.running_var, channel.weight,
                channel.bias, outcome.y[at], exact.y[i], y_error, outcome.dx[at], exact.dx[i], dx_error);
        if (wrong++ < 3) CHECK((y && dx));
      }
    }
    CHECK(wrong == 0);
    INFO("channel " << c);
    CHECK(is_right(param, outcome.weight_grad[c], exact.weight_grad, sum_products * 1e-6L + 0x1p-149L));
    CHECK(is_right(param, outcome.bias_grad[c], exact.bias_grad, sum_of_sizes * 1e-6L + 0x1p-149L));
    CHECK(is_right(param, outcome.running_var[c], exact.running_var, exact.running_var * 1e-6L + 0x1p-149L));
  }
}

}  // namespace

TEST_CASE("numbers at the ends of their range give the exact results, or infinite ones out of range") {
  const Regime rows{"rows", 3, 300, 20}, columns{"columns", 60, 300, 1}, short_rows{"short rows", 12, 100, 5};
  for (const Scalar type : {Scalar::float32, Scalar::float16, Scalar::bfloat16}) {
    for (const bool training : {false, true}) {
      for (const Regime& regime : {rows, columns, short_rows}) {
        for (const double epsilon : {1e-5, 0.0}) {
          INFO(name_of(type) << (training ? ", training, " : ", inference, ") << regime.name << ", " << epsilon);
          check_extremes(type, training, regime, epsilon);
        }
      }
    }
  }
}

TEST_CASE("differences beyond a float's range: four values, of which one is the other end") {
  for (const std::int64_t inner : {1, 4}) {
    Problem problem = tile({"one channel", 4 / inner, 1, inner}, {[] {
                             exact::Channel channel;
                             channel.x = {3e38, -3e38, -3e38, -3e38};
                             for (double& x : channel.x) x = rounded(Scalar::float32, x);
                             channel.dy = {channel.x[0], channel.x[1], 0, 0};
                             return channel;
                           }()});
    const Outcome outcome = run(Scalar::float32, problem);
    CHECK(outcome.y[0] == Approx(std::sqrt(3.0)).epsilon(1e-7));
    CHECK(outcome.y[1] == Approx(-1 / std::sqrt(3.0)).epsilon(1e-7));
    for (const double dx : outcome.dx) CHECK(std::isfinite(dx));
  }
}

TEST_CASE("a bfloat16 result out of range is infinite at every instruction set") {
  exact::Channel channel;
  channel.batch_statistics = false;
  channel.running_mean = rounded(Scalar::float32, 1.85e29);
  channel.weight = rounded(Scalar::float32, 1e16);
  channel.x.assign(64, 1);
  channel.dy.assign(64, 1);
  for (const Regime& regime : {Regime{"row", 1, 1, 64}, Regime{"column", 64, 1, 1}}) {
    Problem problem = tile(regime, {channel});
    problem.training = false;
    for (const double y : run(Scalar::bfloat16, problem).y) CHECK(y == -std::numeric_limits<double>::infinity());
  }
}
