// One channel's values reach no other channel, and neither threads nor addresses reach any value: bit by bit, in every
// way in which kernels walk over a tensor, for every type.

#include <cmath>
#include <cstring>
#include <limits>

#include "../catch.hpp"
#include "data_sets.hpp"

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// Smaller than those of the exactness tests, and large enough for several threads, blocks and slices.
std::vector<Regime> small_regimes() {
  return {
      {"N,C,H,W 28x28", 2, 23, 784}, {"N,C,H,W 14x14", 8, 20, 196},
      {"N,C,H,W 7x7", 32, 37, 49},   {"N,C,H,W 2x1", 784, 19, 2},
      {"N,H,W,C", 1568, 40, 1},      {"N,H,W,C, 3 channels", 1568, 3, 1},
      {"N,C", 60, 600, 1},           {"N,C ColMajor", 1, 11, 1568, true},
      {"long rows", 2, 3, 40000},    {"many rows", 40000, 5, 1},
      {"many samples", 100, 3, 784},
  };
}

// Channels whose coefficients need all of a float's range beside ordinary ones. Neighbours of the former are computed
// in another way than alone.
Problem mixed_problem(Scalar type, const Regime& regime) {
  std::vector<exact::Channel> kinds(7);
  std::uint64_t state = 1;
  const auto uniform = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  const double tiny = type == Scalar::float16 ? 1e-6 : 1e-40, huge = type == Scalar::float16 ? 3e4 : 1e37;
  const double means[] = {0, 3, -100, 0, 0, 0.5, 7}, deviations[] = {1, 2, 0.5, tiny, huge, 0, 1e-3};
  for (std::size_t kind = 0; kind < kinds.size(); ++kind) {
    exact::Channel& channel = kinds[kind];
    for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
      channel.x.push_back(rounded(type, means[kind] + deviations[kind] * (2 * uniform() - 1)));
      channel.dy.push_back(rounded(type, 0.1 + uniform()));
    }
    channel.epsilon = 0;
    channel.weight = 0.5 + static_cast<double>(kind);
    channel.bias = static_cast<double>(kind) - 2.5;
    channel.running_mean = means[kind];
    channel.running_var = 1 + deviations[kind];
    if (kind == 3 || kind == 4) channel.weight = 1e-4;
  }
  for (auto& channel : kinds) {
    for (auto* v : {&channel.weight, &channel.bias, &channel.running_mean, &channel.running_var}) {
      *v = rounded(param_of(type), *v);
    }
  }
  return tile(regime, kinds);
}

bool same(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

// How many numbers differ in a bit, those of one channel left out (-1: none).
std::size_t differences(const Regime& regime, const Outcome& a, const Outcome& b, std::int64_t but = -1) {
  std::size_t count = 0;
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    if (c == but) continue;
    for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
      const std::size_t at = regime.at(c, k);
      count += !same(a.y[at], b.y[at]);
      count += !same(a.dx[at], b.dx[at]);
    }
    const auto i = static_cast<std::size_t>(c);
    count += !same(a.running_mean[i], b.running_mean[i]);
    count += !same(a.running_var[i], b.running_var[i]);
    count += !same(a.weight_grad[i], b.weight_grad[i]);
    count += !same(a.bias_grad[i], b.bias_grad[i]);
  }
  return count;
}

std::size_t numbers(const Regime& regime, const std::vector<double>& values, std::int64_t channel) {
  std::size_t count = 0;
  for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) count += !std::isnan(values[regime.at(channel, k)]);
  return count;
}

}  // namespace

TEST_CASE("a NaN or infinity in x spoils all of its channel and no bit of another, on any number of threads") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      const Problem clean = mixed_problem(type, regime);
      const Outcome expected = run(type, clean);
      int turn = 0;
      for (const double poison : {not_a_number, infinity, -infinity}) {
        // The first, the last and a middle value and channel in turn; and one so that vectors and slices end there.
        const std::int64_t n = regime.values_per_channel();
        const std::int64_t channel = turn == 0 ? 0 : turn == 1 ? regime.channels - 1 : regime.channels / 2;
        const std::int64_t k = turn == 0 ? n - 1 : turn == 1 ? 0 : n / 2 + 1;
        Problem spoiled = clean;
        spoiled.threads = turn == 2 ? 3 : 0;
        spoiled.x[regime.at(channel, k)] = poison;
        const Outcome found = run(type, spoiled);
        INFO(name_of(type) << ", " << regime.name << ", " << poison << " in channel " << channel << ", value " << k);
        CHECK(differences(regime, found, expected, channel) == 0);
        const auto i = static_cast<std::size_t>(channel);
        CHECK(numbers(regime, found.y, channel) == 0);
        CHECK(numbers(regime, found.dx, channel) == 0);
        CHECK_FALSE(std::isfinite(found.running_mean[i]));
        CHECK_FALSE(std::isfinite(found.running_var[i]));
        CHECK(std::isnan(found.weight_grad[i]));
        CHECK(same(found.bias_grad[i], expected.bias_grad[i]));
        ++turn;
      }
    }
  }
}

TEST_CASE("a NaN in dy, weight or running variance spoils its channel and no bit of another") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      for (const bool training : {true, false}) {
        Problem clean = mixed_problem(type, regime);
        clean.training = training;
        const Outcome expected = run(type, clean);
        const std::int64_t channel = regime.channels / 2;
        const auto i = static_cast<std::size_t>(channel);
        INFO(name_of(type) << ", " << regime.name << (training ? ", training" : ", inference"));

        Problem spoiled = clean;
        spoiled.dy[regime.at(channel, 1)] = not_a_number;
        Outcome found = run(type, spoiled);
        CHECK(differences(regime, found, expected, channel) == 0);
        CHECK(std::isnan(found.bias_grad[i]));
        CHECK(std::isnan(found.weight_grad[i]));
        CHECK(numbers(regime, found.y, channel) == static_cast<std::size_t>(regime.values_per_channel()));

        spoiled = clean;
        spoiled.weight[i] = not_a_number;
        found = run(type, spoiled);
        CHECK(differences(regime, found, expected, channel) == 0);
        CHECK(numbers(regime, found.y, channel) == 0);
        CHECK(numbers(regime, found.dx, channel) == 0);
        CHECK(same(found.running_var[i], expected.running_var[i]));

        if (training) continue;
        spoiled = clean;
        spoiled.running_var[i] = -1e-3;
        found = run(type, spoiled);
        CHECK(differences(regime, found, expected, channel) == 0);
        CHECK(numbers(regime, found.y, channel) == 0);
        CHECK(numbers(regime, found.dx, channel) == 0);
      }
    }
  }
}

TEST_CASE("the same bits on 1, 2, 3, 4 and 7 threads and for any alignment, whatever the channels beside need") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      Problem problem = mixed_problem(type, regime);
      const Outcome expected = run(type, problem);
      for (const int threads : {1, 2, 3, 4, 7}) {
        problem.threads = threads;
        problem.misalignment = 3 * threads % 16;
        INFO(name_of(type) << ", " << regime.name << ", " << threads << " threads");
        CHECK(differences(regime, run(type, problem), expected) == 0);
      }
      problem.threads = 0;
      for (const std::int64_t misalignment : {1, 2, 4, 7, 8, 13}) {
        problem.misalignment = misalignment;
        INFO(name_of(type) << ", " << regime.name << ", " << misalignment << " elements off");
        CHECK(differences(regime, run(type, problem), expected) == 0);
      }
    }
  }
}

TEST_CASE("a channel has the same bits whatever the channels beside it hold") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      const Problem mixed = mixed_problem(type, regime);
      Problem plain = mixed;
      // All channels but every seventh from the first become ordinary ones.
      for (std::int64_t c = 0; c < regime.channels; ++c) {
        if (c % 7 == 0) continue;
        const auto i = static_cast<std::size_t>(c);
        plain.weight[i] = 1;
        for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
          plain.x[regime.at(c, k)] = plain.x[regime.at(0, k)];
        }
      }
      const Outcome a = run(type, mixed), b = run(type, plain);
      std::size_t different = 0;
      for (std::int64_t c = 0; c < regime.channels; c += 7) {
        for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
          different += !same(a.y[regime.at(c, k)], b.y[regime.at(c, k)]);
          different += !same(a.dx[regime.at(c, k)], b.dx[regime.at(c, k)]);
        }
        different += !same(a.weight_grad[static_cast<std::size_t>(c)], b.weight_grad[static_cast<std::size_t>(c)]);
      }
      INFO(name_of(type) << ", " << regime.name);
      CHECK(different == 0);
    }
  }
}

TEST_CASE("an unusual channel has the same bits as the first, a middle or the last of ordinary ones") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      const Problem mixed = mixed_problem(type, regime);
      // Tiny values, huge ones, a constant, neighbours.
      for (const std::int64_t kind : {3, 4, 5, 6}) {
        if (kind >= regime.channels) continue;
        const auto outcome_at = [&](std::int64_t place) {
          Problem problem = mixed;
          for (std::int64_t c = 0; c < regime.channels; ++c) {
            const std::int64_t from = c == place ? kind : 0;
            const auto i = static_cast<std::size_t>(c), j = static_cast<std::size_t>(from);
            problem.weight[i] = mixed.weight[j];
            problem.bias[i] = mixed.bias[j];
            for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
              problem.x[regime.at(c, k)] = mixed.x[regime.at(from, k)];
              problem.dy[regime.at(c, k)] = mixed.dy[regime.at(from, k)];
            }
          }
          return run(type, problem);
        };
        const std::int64_t middle = regime.channels / 2;
        const Outcome expected = outcome_at(middle);
        for (const std::int64_t place : {std::int64_t(0), regime.channels - 1}) {
          const Outcome found = outcome_at(place);
          std::size_t different = 0;
          for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
            different += !same(found.y[regime.at(place, k)], expected.y[regime.at(middle, k)]);
            different += !same(found.dx[regime.at(place, k)], expected.dx[regime.at(middle, k)]);
          }
          different += !same(found.weight_grad[static_cast<std::size_t>(place)],
                             expected.weight_grad[static_cast<std::size_t>(middle)]);
          INFO(name_of(type) << ", " << regime.name << ", kind " << kind << " in place " << place);
          CHECK(different == 0);
        }
      }
    }
  }
}

TEST_CASE("a negative zero is a zero: constant channels of both give the bias") {
  for (const Scalar type : all_scalars) {
    for (const auto& regime : small_regimes()) {
      Problem problem = mixed_problem(type, regime);
      problem.epsilon = 1e-5;
      for (std::size_t i = 0; i < problem.x.size(); ++i) problem.x[i] = i % 3 == 0 ? -0.0 : 0.0;
      const Outcome outcome = run(type, problem);
      std::size_t wrong = 0;
      for (std::int64_t c = 0; c < regime.channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
          wrong += outcome.y[regime.at(c, k)] != rounded(type, problem.bias[i]);
        }
        wrong += outcome.weight_grad[i] != 0;
      }
      INFO(name_of(type) << ", " << regime.name);
      CHECK(wrong == 0);
    }
  }
}
