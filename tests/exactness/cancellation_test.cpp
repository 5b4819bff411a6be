// The 16-bit types where the terms of y cancel: they are computed in pairs of floats, whose few digits each must not
// show in what is left. Inference, where statistics and parameters can be whatever a test wants.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "../catch.hpp"
#include "run.hpp"

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
