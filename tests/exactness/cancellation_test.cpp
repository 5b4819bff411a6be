// The 16-bit types where the terms of y or of dx cancel: they are computed in pairs of floats, whose few digits each
// must not show in what is left. Inference and the fourth primitive alone, where statistics and coefficients can be
// whatever a test wants.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "../catch.hpp"
#include "measure.hpp"

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Numbers {
  std::mt19937_64 engine{77};
  double uniform(double least, double most) { return std::uniform_real_distribution<double>(least, most)(engine); }
  double size(double least, double most) { return std::exp2(uniform(least, most)); }  // by powers of two
  double sign() { return uniform(-1, 1) < 0 ? -1 : 1; }
};

// A channel whose y is next to nothing about some x: a small one, a usual one, or a large one.
exact::Channel cancelling_channel(Scalar type, Numbers& numbers, std::size_t values) {
  const auto as_float = [](double value) { return rounded(Scalar::float32, value); };
  exact::Channel channel;
  channel.batch_statistics = false;
  const double deviation = numbers.size(-5, 5);
  const double mean = numbers.sign() * deviation * numbers.size(-20, 8);
  channel.running_mean = as_float(mean);
  channel.running_var = as_float(deviation * deviation);
  channel.weight = as_float(numbers.uniform(0, 1) < 0.05 ? 0 : numbers.sign() * numbers.size(-4, 4));
  const double scale = channel.weight / std::sqrt(channel.running_var + channel.epsilon);
  const double zeros[] = {0, rounded(type, numbers.size(-24, -8)),
                          rounded(type, mean + deviation * numbers.uniform(-4, 4)),
                          rounded(type, deviation * numbers.size(2, 6))};
  const double zero = zeros[numbers.engine() % 4];
  channel.bias = as_float(-(zero - channel.running_mean) * scale);
  for (std::size_t i = 0; i < values; ++i) {
    const double choices[] = {zero + static_cast<double>(i % 9) * ulp(type, zero),
                              zero + numbers.sign() * numbers.size(-24, -6), mean + deviation * numbers.uniform(-4, 4),
                              numbers.sign() * numbers.size(-24, 12)};
    channel.x.push_back(rounded(type, choices[numbers.engine() % 4]));
  }
  channel.dy.assign(values, 1);
  return channel;
}

// How far dx is off, in ulps of the exact value, less what the low halves of the pairs lack, for x and dy such that
// most of dx cancels: dy is what the other terms are, and some ulps more.
template <class T, Scalar type>
double largest_error_of_dx(const Regime& regime, Numbers& numbers) {
  const auto n = static_cast<std::size_t>(regime.channels);
  batchnorm::GradientCoefficients<double> k;
  for (auto* all : {&k.mean_dy, &k.mean, &k.mean_residual, &k.projection, &k.scale}) all->resize(regime.channels);
  Eigen::Tensor<T, 3, Eigen::RowMajor> x(regime.outer, regime.channels, regime.inner), dy(x.dimensions()),
      dx(x.dimensions());
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    const double deviation = numbers.size(-5, 5);
    k.mean(c) = numbers.sign() * deviation * numbers.size(-20, 4);
    k.mean_residual(c) = k.mean(c) * numbers.uniform(-1, 1) * 0x1p-53;
    k.mean_dy(c) = numbers.sign() * numbers.size(-20, 4);
    k.projection(c) = numbers.uniform(0, 1) < 0.05 ? 0 : numbers.sign() * numbers.size(-6, 3) / deviation;
    k.scale(c) = numbers.sign() * numbers.size(-4, 4);
    for (std::int64_t i = 0; i < regime.values_per_channel(); ++i) {
      const double choices[] = {k.mean(c) + deviation * numbers.uniform(-4, 4), numbers.sign() * numbers.size(-24, 6)};
      const double value = rounded(type, choices[numbers.engine() % 2]);
      const double rest = k.mean_dy(c) + (value - k.mean(c)) * k.projection(c);
      const double gradients[] = {rest + static_cast<double>(i % 5 - 2) * ulp(type, rest), rest,
                                  numbers.sign() * numbers.size(-24, 6)};
      const std::size_t at = regime.at(c, i);
      x.data()[at] = static_cast<T>(static_cast<float>(value));
      dy.data()[at] = static_cast<T>(static_cast<float>(rounded(type, gradients[numbers.engine() % 3])));
    }
  }
  batchnorm::apply_gradients(x, dy, 1, k, dx);
  double largest_error = 0;
  for (std::size_t c = 0; c < n; ++c) {
    for (std::int64_t i = 0; i < regime.values_per_channel(); ++i) {
      const auto channel = static_cast<std::int64_t>(c);
      const std::size_t at = regime.at(channel, i);
      const auto number = [](T value) { return static_cast<long double>(static_cast<float>(value)); };
      const long double p = k.projection(channel), scale = std::abs(k.scale(channel));
      const long double centered = number(x.data()[at]) - k.mean(channel) - k.mean_residual(channel);
      const long double exact = ((number(dy.data()[at]) - k.mean_dy(channel)) - centered * p) * k.scale(channel);
      const long double terms =
          ((std::abs(number(x.data()[at])) + std::abs(k.mean(channel))) * std::abs(p) + std::abs(k.mean_dy(channel))) *
          scale;
      const long double off = std::abs(number(dx.data()[at]) - exact) - terms * 0x1p-46L;
      const double error = static_cast<double>(off / static_cast<long double>(ulp(type, static_cast<double>(exact))));
      if (!(error <= largest_error)) largest_error = error;
    }
  }
  return largest_error;
}

}  // namespace

TEST_CASE("16-bit results are the exact ones within 0.501 ulp where the terms of y cancel") {
  for (const Scalar type : {Scalar::float16, Scalar::bfloat16}) {
    Numbers numbers;
    const Regime rows{"rows", 4, 300, 32}, columns{"columns", 128, 300, 1};
    std::vector<exact::Channel> channels;
    while (channels.size() < 300) channels.push_back(cancelling_channel(type, numbers, 128));
    double largest_error = 0;
    for (const Regime& regime : {rows, columns}) {
      Problem problem = tile(regime, channels);
      problem.training = false;
      const Outcome outcome = run(type, problem);
      for (std::size_t c = 0; c < channels.size(); ++c) {
        const auto& channel = channels[c];
        const exact::Result exact = exact::solve(channel, 50);
        for (std::size_t k = 0; k < channel.x.size(); ++k) {
          const double found = outcome.y[regime.at(static_cast<std::int64_t>(c), static_cast<std::int64_t>(k))];
          const long double y = exact.y[k], scale = std::abs(channel.weight) * exact.inv_std;
          // What the low halves of the pairs lack.
          const long double terms =
              (std::abs(channel.x[k]) + std::abs(channel.running_mean)) * scale + std::abs(channel.bias);
          const long double off = std::max(0.0L, std::abs(static_cast<long double>(found) - y) - terms * 0x1p-47L);
          const double error =
              std::isinf(found)
                  ? (std::abs(y) < static_cast<long double>(largest(type)) ? infinity : 0)
                  : static_cast<double>(off / static_cast<long double>(ulp(type, static_cast<double>(y))));
          if (!(error <= largest_error)) largest_error = error;
        }
      }
    }
    INFO(name_of(type));
    CHECK(largest_error <= 0.501);
  }
}

TEST_CASE("16-bit gradients are the exact ones within 0.501 ulp where the terms of dx cancel") {
  Numbers numbers;
  for (const Regime& regime : {Regime{"rows", 4, 300, 50}, Regime{"columns", 200, 300, 1}}) {
    INFO(regime.name);
    CHECK(largest_error_of_dx<Eigen::half, Scalar::float16>(regime, numbers) <= 0.501);
    CHECK(largest_error_of_dx<Eigen::bfloat16, Scalar::bfloat16>(regime, numbers) <= 0.501);
  }
}

// There a layer, which knows how far x is spread, has x less a center.
TEST_CASE("16-bit gradients are the exact ones within 0.501 ulp where dx cancels far from 0") {
  for (const Scalar type : {Scalar::float16, Scalar::bfloat16}) {
    Numbers numbers;
    const Regime rows{"rows", 4, 100, 32}, columns{"columns", 128, 100, 1};
    DataSet set;
    set.name = "far from 0: dy in the span of 1 and x-hat, or one value off";
    while (set.channels.size() < 100) {
      exact::Channel channel;
      const double deviation = numbers.size(-5, 5);
      const double mean = numbers.sign() * deviation * numbers.size(0, type == Scalar::float16 ? 10 : 7);
      const double slope = numbers.sign() * numbers.size(-3, 3), offset = numbers.sign() * numbers.size(-10, 6);
      const bool one_off = set.channels.size() % 4 == 0;  // whose dx, and the sum of the others', is 0
      channel.epsilon = 0;
      for (int k = 0; k < 128; ++k) {
        double value = rounded(type, mean + deviation * numbers.uniform(-2, 2));
        if (one_off) value = rounded(type, mean) + (k == 77 ? ulp(type, mean) : 0);
        channel.x.push_back(value);
        channel.dy.push_back(
            rounded(type, offset + slope * (one_off ? numbers.uniform(-1, 1) : (value - mean) / deviation)));
      }
      set.channels.push_back(channel);
    }
    const Solved solved(std::move(set));
    for (const Regime& regime : {rows, columns}) {
      const Errors found = errors(type, solved, regime, run(type, tile(regime, solved.set.channels)));
      INFO(name_of(type) << ", " << regime.name << ": " << found);
      CHECK(found.y <= 0.501);
      CHECK(found.dx <= 0.501);
    }
  }
}

TEST_CASE("16-bit infinities stay infinite, beside channels that floats cannot hold too") {
  for (const Scalar type : {Scalar::float16, Scalar::bfloat16}) {
    for (const double last_weight : {1.0, 1e30}) {
      std::vector<exact::Channel> channels(3);
      for (auto& channel : channels) {
        channel.x.assign(32, 0.25);
        channel.x[5] = infinity, channel.x[9] = -infinity;
        channel.dy.assign(32, 1);
        channel.bias = -0.25, channel.running_mean = 0.75, channel.running_var = 4;
        channel.epsilon = 0;  // for a scale of just 1 / 2
      }
      channels[1].weight = -0.7;
      channels[2].weight = last_weight;
      for (const Regime& regime : {Regime{"rows", 1, 3, 32}, Regime{"columns", 32, 3, 1}}) {
        Problem problem = tile(regime, channels);
        problem.training = false;
        const Outcome outcome = run(type, problem);
        INFO(name_of(type) << ", " << regime.name << ", " << last_weight);
        for (const std::int64_t c : {0, 2}) {
          CHECK(outcome.y[regime.at(c, 5)] == infinity);
          CHECK(outcome.y[regime.at(c, 9)] == -infinity);
        }
        CHECK(outcome.y[regime.at(1, 5)] == -infinity);
        CHECK(outcome.y[regime.at(1, 9)] == infinity);
        CHECK(outcome.y[regime.at(0, 0)] == -0.5);
      }
    }
  }
}
