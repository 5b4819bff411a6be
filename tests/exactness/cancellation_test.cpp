// The 16-bit types where the terms of y or of dx cancel: they are computed in pairs of floats, whose few digits each
// must not show in what is left. Mostly inference and the fourth primitive alone, where statistics and coefficients can
// be whatever a test wants; whole layers where the statistics are the point.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

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

// How far dx is off, in ulps of the exact value, less what the pairs lack below the anchor, for x and dy such that
// most of dx cancels: dy is what the other terms are, and some ulps more.
template <class T, Scalar type>
double largest_error_of_dx(const Regime& regime, Numbers& numbers) {
  const auto n = static_cast<std::size_t>(regime.channels);
  batchnorm::GradientCoefficients<double> k;
  Eigen::Tensor<double, 1> reach(regime.channels);
  for (auto* all : {&k.mean_dy, &k.mean, &k.mean_residual, &k.projection, &k.scale}) all->resize(regime.channels);
  Eigen::Tensor<T, 3, Eigen::RowMajor> x(regime.outer, regime.channels, regime.inner), dy(x.dimensions()),
      dx(x.dimensions());
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    const double deviation = numbers.size(-5, 5);
    k.mean(c) = numbers.sign() * deviation * numbers.size(-20, 6);
    k.mean_residual(c) = k.mean(c) * numbers.uniform(-1, 1) * 0x1p-53;
    k.mean_dy(c) = numbers.sign() * numbers.size(-20, 4);
    k.projection(c) = numbers.uniform(0, 1) < 0.05 ? 0 : numbers.sign() * numbers.size(-6, 3) / deviation;
    k.scale(c) = numbers.sign() * numbers.size(-4, 4);
    reach(c) = deviation;
    for (std::int64_t i = 0; i < regime.values_per_channel(); ++i) {
      const double choices[] = {k.mean(c) + deviation * numbers.uniform(-4, 4), numbers.sign() * numbers.size(-24, 6)};
      const double value = rounded(type, choices[numbers.engine() % 2]);
      const double rest = k.mean_dy(c) + (value - k.mean(c)) * k.projection(c);
      const double gradients[] = {rest + static_cast<double>(i % 5 - 2) * ulp(type, rest), rest,
                                  numbers.sign() * numbers.size(-24, 6)};
      const std::size_t at = regime.at(c, i);
      reach(c) = std::max(reach(c), std::abs(value - k.mean(c)));
      x.data()[at] = static_cast<T>(static_cast<float>(value));
      dy.data()[at] = static_cast<T>(static_cast<float>(rounded(type, gradients[numbers.engine() % 3])));
    }
  }
  // As a layer calls the fourth primitive: it knows how far x reaches.
  const batchnorm::detail::View view{regime.outer, regime.channels, regime.inner};
  using Elements = batchnorm::detail::Elements<T>;
  batchnorm::detail::apply_gradients(
      Eigen::DefaultDevice(), view,
      batchnorm::detail::Operands<T, 2>{{Elements::dense(x.data(), view), Elements::dense(dy.data(), view)},
                                        {Elements::dense(dx.data(), view)}},
      batchnorm::detail::GradientArrays<double>{{{k.mean_dy.data(), k.mean.data(), k.mean_residual.data(),
                                                  k.projection.data(), k.scale.data(), reach.data()}}});
  double largest_error = 0;
  for (std::size_t c = 0; c < n; ++c) {
    for (std::int64_t i = 0; i < regime.values_per_channel(); ++i) {
      const auto channel = static_cast<std::int64_t>(c);
      const std::size_t at = regime.at(channel, i);
      const auto number = [](T value) { return static_cast<long double>(static_cast<float>(value)); };
      const long double p = k.projection(channel), scale = std::abs(k.scale(channel));
      const long double centered = number(x.data()[at]) - k.mean(channel) - k.mean_residual(channel);
      const long double exact = ((number(dy.data()[at]) - k.mean_dy(channel)) - centered * p) * k.scale(channel);
      const long double terms = (reach(channel) * std::abs(p) + std::abs(k.mean_dy(channel))) * scale;
      const long double off = std::abs(number(dx.data()[at]) - exact) - terms * 0x1p-45L;
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

// There x is taken less a center. One value apart from all others has a dx of next to nothing, the difference of terms
// as large as it is far.
TEST_CASE("16-bit gradients are the exact ones within 0.501 ulp where dx cancels far from 0") {
  for (const Scalar type : {Scalar::float16, Scalar::bfloat16}) {
    for (const double epsilon : {0.0, 1e-5}) {
      Numbers numbers;
      const Regime rows{"rows", 4, 60, 150}, columns{"columns", 600, 60, 1};
      DataSet set;
      set.name = "far from 0: dy in the span of 1 and x-hat, or one value apart";
      while (set.channels.size() < 60) {
        exact::Channel channel;
        channel.epsilon = epsilon;
        const double deviation = numbers.size(-5, 5);
        const double mean = numbers.sign() * deviation * numbers.size(0, type == Scalar::float16 ? 10 : 7);
        const double slope = numbers.sign() * numbers.size(-3, 3), offset = numbers.sign() * numbers.size(-10, 6);
        const auto kind = set.channels.size() % 4;
        const double apart = kind == 0 ? mean + ulp(type, mean) : mean * numbers.size(-20, -8);
        for (int k = 0; k < 600; ++k) {
          double value = mean + deviation * numbers.uniform(-2, 2), gradient = slope * (value - mean) / deviation;
          if (kind < 2) {
            value = k == 77 ? apart : mean;
            gradient = slope * numbers.uniform(-1, 1);
          }
          channel.x.push_back(rounded(type, value));
          channel.dy.push_back(rounded(type, offset + gradient));
        }
        set.channels.push_back(channel);
      }
      const Solved solved(std::move(set));
      for (const Regime& regime : {rows, columns}) {
        const Errors found = errors(type, solved, regime, run(type, tile(regime, solved.set.channels)));
        INFO(name_of(type) << ", epsilon " << epsilon << ", " << regime.name << ": " << found);
        CHECK(found.y <= 0.501);
        CHECK(found.dx <= 0.501);
      }
    }
  }
}

// A bfloat16 can be as large as a float: products and sums of such numbers are not floats, though dx may be one.
TEST_CASE("bfloat16 gradients are the exact ones within 0.501 ulp at both ends of the range") {
  Numbers numbers;
  DataSet set;
  set.name = "at both ends of the range";
  for (int c = 0; c < 6; ++c) {
    exact::Channel channel;
    channel.epsilon = 0;
    const double x_size = c % 3 == 0 ? 0x1p70 : c % 3 == 1 ? 3e38 : 0x1p-66;
    const double dy_size = c % 3 == 0 ? 3e38 : c % 3 == 1 ? 1e29 : 0x1p-124;
    channel.weight = c % 3 == 0 ? 1e4 : c % 3 == 1 ? 1e20 : 0x1p-7;
    for (int k = 0; k < 600; ++k) {
      const double ramp = (k - 299.5) / 300;
      double x = x_size * ramp, dy = std::copysign(dy_size, ramp);
      if (c % 3 == 1) x = k == 77 ? -x_size : x_size, dy = dy_size * numbers.uniform(-1, 1);
      if (c % 3 == 2) dy = dy_size * (1 + ramp);
      if (c >= 3 && (k == 50 || k == 500)) dy = -dy;
      channel.x.push_back(rounded(Scalar::bfloat16, x));
      channel.dy.push_back(rounded(Scalar::bfloat16, dy));
    }
    set.channels.push_back(channel);
  }
  for (const auto& channel : set.channels) {  // apart: one such channel has its neighbours computed another way
    DataSet alone;
    alone.name = set.name;
    alone.channels = {channel, channel};
    const Solved solved(std::move(alone));
    for (const Regime& regime : {Regime{"rows", 4, 2, 150}, Regime{"columns", 600, 2, 1}}) {
      const Errors found =
          errors(Scalar::bfloat16, solved, regime, run(Scalar::bfloat16, tile(regime, solved.set.channels)));
      INFO(regime.name << ", weight " << channel.weight << ": " << found);
      CHECK(found.dx <= 0.501);
    }
  }
  Solved together(std::move(set));
  for (const Regime& regime : {Regime{"rows", 4, 6, 150}, Regime{"columns", 600, 6, 1}}) {
    const Errors found =
        errors(Scalar::bfloat16, together, regime, run(Scalar::bfloat16, tile(regime, together.set.channels)));
    INFO(regime.name << ", together: " << found);
    CHECK(found.dx <= 0.501);
  }
}

TEST_CASE("bfloat16 gradients are the exact ones within 0.501 ulp all over the range") {
  Numbers numbers;
  for (int c = 0; c < 60; ++c) {
    exact::Channel channel;
    channel.epsilon = 0;
    const double x_size = numbers.size(-120, 120), scale = numbers.size(-59, 59), mean = numbers.uniform(-2, 2);
    const double weight = scale * x_size;
    if (!(weight > 0x1p-120 && weight < 0x1p120)) continue;
    channel.weight = rounded(Scalar::float32, weight);
    const double dy_size = std::clamp(numbers.size(-120, 118), 0x1p-110 / scale, 0x1p110 / scale);
    const double offset = numbers.sign() * numbers.size(-12, 4), slope = numbers.sign() * numbers.size(-20, 2);
    for (int k = 0; k < 200; ++k) {
      const double deviation = numbers.uniform(-1.7, 1.7);
      channel.x.push_back(rounded(Scalar::bfloat16, x_size * (mean + deviation)));
      const double noise = c % 2 == 0 ? numbers.uniform(-1, 1) : 0;
      channel.dy.push_back(rounded(Scalar::bfloat16, dy_size * (offset + slope * deviation + noise)));
    }
    DataSet set;  // of its own: a channel for which floats do has none beside it for which they do not
    set.name = "all over the range";
    set.channels = {channel, channel};
    const Solved solved(std::move(set));
    for (const Regime& regime : {Regime{"rows", 4, 2, 50}, Regime{"columns", 200, 2, 1}}) {
      const Errors found =
          errors(Scalar::bfloat16, solved, regime, run(Scalar::bfloat16, tile(regime, solved.set.channels)));
      INFO(regime.name << ", x " << x_size << ", dy " << dy_size << ", scale " << scale << ": " << found);
      CHECK(found.dx <= 0.501);
    }
  }
}

// There x counts for nothing, and dy less its mean is all of dx: next to nothing where all dy are nearly the same.
TEST_CASE("bfloat16 gradients of constant channels are the exact ones within 0.501 ulp all over the range") {
  Numbers numbers;
  for (int exponent = -126; exponent <= 126; exponent += 6) {
    DataSet set;
    set.name = "constant channels";
    for (int c = 0; c < 100; ++c) {
      exact::Channel channel;
      channel.epsilon = 1;
      channel.weight = std::ldexp(1.0, exponent < 0 ? 50 : -10);
      channel.x.assign(60, 3);
      const double dy = rounded(Scalar::bfloat16, std::ldexp(numbers.uniform(1, 1.9), exponent));
      for (int k = 0; k < 60; ++k) {
        channel.dy.push_back(dy + static_cast<double>(numbers.engine() % 3) * ulp(Scalar::bfloat16, dy));
      }
      set.channels.push_back(channel);
    }
    const Solved solved(std::move(set));
    for (const Regime& regime : {Regime{"rows", 2, 100, 30}, Regime{"columns", 60, 100, 1}}) {
      const Errors found =
          errors(Scalar::bfloat16, solved, regime, run(Scalar::bfloat16, tile(regime, solved.set.channels)));
      INFO(regime.name << ", dy of 2^" << exponent << ": " << found);
      CHECK(found.dx <= 0.501);
    }
  }
}

// Every dx here is as large as its terms, though x is far larger than x less the mean, or far smaller than the mean.
TEST_CASE("16-bit gradients keep the digits of values next to the mean and next to 0") {
  Numbers numbers;
  std::vector<std::pair<Scalar, exact::Channel>> cases;
  const auto add = [&](Scalar type, double epsilon, double weight, std::vector<double> x, std::vector<double> dy,
                       double mean, double unit, double gradient) {
    exact::Channel channel;
    channel.epsilon = epsilon, channel.weight = rounded(Scalar::float32, weight);
    while (x.size() < 64) {  // pairs that leave the mean and the mean of dy where they are
      const double d = unit * (8 + static_cast<double>(numbers.engine() % 24));
      const double g = rounded(type, gradient * numbers.uniform(-0.3, 1));
      x.insert(x.end(), {mean + d, mean - d});
      dy.insert(dy.end(), {g, -g});
    }
    channel.x = x, channel.dy = dy;
    cases.emplace_back(type, channel);
  };
  for (int k = 0; k < 20; ++k) {
    add(Scalar::float16, 1e-5, 1e9, {12, 0x1p-24, 24, 12}, {0, 0, 0, 0}, 12, 0x1p-4, 1);
    add(Scalar::bfloat16, 1e-5, 1, {12, 0x1p-24, 24, 12}, {0, 0, 0, 0}, 12, 0x1p-4, 1);
    add(Scalar::bfloat16, 0, 0x1p58, {0x1.8p-60, -0x1.8p-60}, {0, 0}, 0, 0x1p-4, 0x1p-80);
    add(Scalar::bfloat16, 0, 0x1p-10, {32, -32, 0x1p-26, 0}, {0, 0, 0, 0}, 0, 0x1p-4, 0x1p127);
    const double mean = rounded(Scalar::bfloat16, numbers.uniform(40, 56));
    add(Scalar::bfloat16, 1e-5, 1, {mean, mean}, {0, 0}, mean, 0.25, 1);
  }
  for (const auto& [type, channel] : cases) {
    const exact::Result exact = exact::solve(channel);
    for (const Regime& regime : {Regime{"rows", 2, 1, 32}, Regime{"columns", 64, 1, 1}}) {
      const Outcome outcome = run(type, tile(regime, {channel}));
      for (std::size_t i = 0; i < channel.x.size(); ++i) {
        const double dx = static_cast<double>(exact.dx[i]), found = outcome.dx[regime.at(0, static_cast<int>(i))];
        INFO(name_of(type) << ", " << regime.name << ", x " << channel.x[i] << ", dx " << dx << ", found " << found);
        if (std::abs(dx) <= largest(type)) CHECK(std::abs(found - dx) <= 0.501 * ulp(type, dx));
      }
    }
  }
}

// Where floats have not the range for a channel it is computed in double, alone or in one run with its neighbours. dy
// in the span of 1 and x-hat leaves rounding errors alone, and an infinite one infinities and NaN: both would tell the
// difference.
TEST_CASE("no bit of a 16-bit dx depends on what channels lie beside it") {
  Numbers numbers;
  for (const Scalar type : {Scalar::float16, Scalar::bfloat16}) {
    std::int64_t not_0 = 0;
    for (int kind = 0; kind < 30; ++kind) {
      exact::Channel plain, other;
      other.weight = 1e25, plain.epsilon = other.epsilon = 0;
      for (auto* channel : {&plain, &other}) {
        for (int k = 0; k < 600; ++k) {
          channel->x.push_back(rounded(type, numbers.uniform(-2, 6)));
          channel->dy.push_back(2 * channel->x.back());
        }
      }
      if (kind >= 8) other.weight = 1, other.dy[static_cast<std::size_t>(20 * kind)] = infinity;
      for (const Regime& regime : {Regime{"rows", 4, 2, 150}, Regime{"columns", 600, 2, 1}}) {
        const Outcome like[] = {run(type, tile(regime, {other, other})), run(type, tile(regime, {plain, plain}))};
        const Outcome unlike = run(type, tile(regime, {other, plain}));
        std::int64_t different = 0;
        for (const std::int64_t c : {0, 1}) {
          for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
            const double a = like[c].dx[regime.at(c, k)], b = unlike.dx[regime.at(c, k)];
            different += a != b && !(std::isnan(a) && std::isnan(b));
            not_0 += a != 0;
          }
        }
        INFO(name_of(type) << ", " << regime.name << ", " << kind);
        CHECK(different == 0);
      }
    }
    CHECK(not_0 > 1000);
  }
}

// Which do not say how far x is spread.
TEST_CASE("coefficients of the caller's own give an exact bfloat16 dx for any x") {
  batchnorm::GradientCoefficients<double> k;
  for (auto* all : {&k.mean_dy, &k.mean, &k.mean_residual, &k.projection, &k.scale}) all->resize(1);
  k.mean_dy(0) = -1, k.mean(0) = 1.5, k.mean_residual(0) = 0;
  k.projection(0) = k.scale(0) = 1;
  Eigen::Tensor<Eigen::bfloat16, 2> x(32, 1), dx(32, 1);
  x.setConstant(static_cast<Eigen::bfloat16>(0x1p30f));
  const Eigen::Tensor<Eigen::bfloat16, 2> dy = x;
  batchnorm::apply_gradients(x, dy, 1, k, dx);
  for (int i = 0; i < 32; ++i) CHECK(static_cast<float>(dx(i, 0)) == 2.5f);
}

// Nothing cancels there, but products with values of x so small are no float's. They come where those before them have
// added up to 0, so that sums in double keep them.
TEST_CASE("bfloat16 gradients keep the digits of values far smaller than the deviation") {
  exact::Channel channel;
  channel.epsilon = 0, channel.weight = 0x1p56;
  for (int k = 0; k < 256; ++k) {
    const bool small = k >= 128 && k % 64 >= 48;
    channel.x.push_back(!small ? (k / 64 % 2 == 0 ? 1 : -1) : k < 192 ? 0 : (1 + (k % 37) / 64.0) * 0x1p-80);
    channel.dy.push_back(small ? 0 : 0x1.4p-90 * channel.x.back());
  }
  const exact::Result exact = exact::solve(channel);
  for (const Regime& regime : {Regime{"rows", 4, 1, 64}, Regime{"columns", 256, 1, 1}}) {
    const Outcome outcome = run(Scalar::bfloat16, tile(regime, {channel}));
    for (std::size_t i = 0; i < channel.x.size(); ++i) {
      const double dx = static_cast<double>(exact.dx[i]), found = outcome.dx[regime.at(0, static_cast<int>(i))];
      if (std::abs(channel.x[i]) == 1) continue;  // there all but 2^-90 cancels
      INFO(regime.name << ", x " << channel.x[i] << ", dx " << dx << ", found " << found);
      CHECK(std::abs(found - dx) <= 0.501 * ulp(Scalar::bfloat16, dx));
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
