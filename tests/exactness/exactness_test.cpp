// The library against 100 decimal digits, on inputs where batch normalization is commonly wrong, in every way in which
// kernels walk over a tensor. Run at every instruction set (see CMakeLists.txt).

#include <cmath>
#include <map>
#include <utility>

#include "../catch.hpp"
#include "measure.hpp"

namespace {

// What the library promises, on the scales that Errors describes.
Errors promised(Scalar type) {
  Errors e;
  if (is_16_bit(type)) {
    e.running_mean = e.running_var = e.weight_grad = e.bias_grad = 1e-6;
    e.y = e.dx = 0.501;  // ulps: the exact value rounded, by way of a float
  } else if (type == Scalar::float32) {
    e.y = e.running_mean = e.running_var = e.dx = e.weight_grad = e.bias_grad = 1e-6;
  } else {
    e.y = e.running_mean = e.running_var = e.dx = e.bias_grad = 1e-13;
    e.weight_grad = 1e-9;  // where dy has a mean, its products with x-hat cancel
  }
  return e;
}

// Doubles whose squares are below double's range count as equal: without an epsilon, their x-hat is 0. Float has no
// such values, its sums being doubles.
bool beyond_promise(Scalar type, const DataSet& set) {
  return type == Scalar::float64 && set.name.find("denormals, epsilon 0") != std::string::npos;
}

const std::vector<Solved>& solved_sets(Scalar type) {
  static const auto solve = [](Scalar of_type) {
    std::vector<Solved> all;
    for (auto& set : data_sets(of_type)) {
      if (!beyond_promise(of_type, set)) all.emplace_back(std::move(set));
    }
    return all;
  };
  static std::map<Scalar, std::vector<Solved>> all;
  auto& sets = all[type];
  if (sets.empty()) sets = solve(type);
  return sets;
}

void check(Scalar type, const Solved& solved, const Regime& regime, int threads = 0) {
  Problem problem = tile(regime, solved.set.channels);
  problem.threads = threads;
  const Errors found = errors(type, solved, regime, run(type, problem)), allowed = promised(type);
  INFO(name_of(type) << ", " << solved.set.name << ", " << regime.name << ", " << threads << " threads: " << found);
  CHECK(found.y <= allowed.y);
  CHECK(found.running_mean <= allowed.running_mean);
  CHECK(found.running_var <= allowed.running_var);
  CHECK(found.dx <= allowed.dx);
  CHECK(found.weight_grad <= allowed.weight_grad);
  CHECK(found.bias_grad <= allowed.bias_grad);
}

void check_all(Scalar type) {
  for (const auto& solved : solved_sets(type)) {
    for (const auto& regime : regimes(solved.set.values_per_channel())) check(type, solved, regime);
  }
}

}  // namespace

TEST_CASE("float results are within 1e-6 of the exact ones on every data set in every regime") {
  check_all(Scalar::float32);
}

TEST_CASE("double results are within 1e-13 of the exact ones on every data set in every regime, weight_grad 1e-9") {
  check_all(Scalar::float64);
}

TEST_CASE("half results are the exact ones within 0.501 ulp on every data set in every regime") {
  check_all(Scalar::float16);
}

TEST_CASE("bfloat16 results are the exact ones within 0.501 ulp on every data set in every regime") {
  check_all(Scalar::bfloat16);
}

// Sorted values give slices of a channel different centers, and values a few ulps apart a deviation not much larger
// than what a mean of one double lacks.
TEST_CASE("slices with centers of their own are merged without loss, however near to constant a channel is") {
  for (const double ulps : {3.0, 1000.0, 1e6}) {
    exact::Channel channel;
    channel.epsilon = 0;
    for (int k = 0; k < 1000; ++k) {
      channel.x.push_back(1 + std::floor(ulps * k / 1000) * 0x1p-52);
      channel.dy.push_back(k % 7 - 3);
    }
    DataSet set;
    set.name = "sorted, within some ulps";
    set.channels = {channel};
    const Solved solved(std::move(set));
    check(Scalar::float64, solved, {"N,C of 200 channels", 1000, 200, 1});
    check(Scalar::float64, solved, {"N,C of 200 channels", 1000, 200, 1}, 3);
  }
}

// Kernels that treat neighbouring channels alike must not let one's range or digits reach another's.
TEST_CASE("channels of every data set side by side are as exact as apart") {
  for (const Scalar type : all_scalars) {
    for (const double epsilon : {1e-5, 0.0}) {
      Solved together;
      together.set.name = "all together";
      for (const auto& solved : solved_sets(type)) {
        const auto& first = solved.set.channels.front();
        if (first.x.size() == 1568 && first.epsilon == epsilon && first.momentum == 0.1 && first.batch_statistics) {
          together.append(solved);
        }
      }
      REQUIRE(together.results.size() >= 9);
      for (auto regime : regimes(1568)) {
        regime.channels = static_cast<std::int64_t>(together.results.size());
        check(type, together, regime);
        check(type, together, regime, 3);
      }
      if (epsilon == 0) continue;
      // More channels than a block of any kind has.
      check(type, together, {"N,H,W,C, 1100 channels", 1568, 1100, 1});
      check(type, together, {"N,C,H,W 7x7, 1100 channels", 32, 1100, 49});
    }
  }
}

TEST_CASE("constant channels give exactly their bias, and no gradient but epsilon's, in every regime") {
  for (const Scalar type : all_scalars) {
    for (const auto& solved : solved_sets(type)) {
      if (solved.set.name != "constant" && solved.set.name != "constant, epsilon 0") continue;
      for (const auto& regime : regimes(solved.set.values_per_channel())) {
        const Problem problem = tile(regime, solved.set.channels);
        const Outcome outcome = run(type, problem);
        std::size_t wrong = 0;
        for (std::int64_t c = 0; c < regime.channels; ++c) {
          const double bias = rounded(type, problem.bias[static_cast<std::size_t>(c)]);
          for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) wrong += outcome.y[regime.at(c, k)] != bias;
          wrong += outcome.weight_grad[static_cast<std::size_t>(c)] != 0;
        }
        INFO(name_of(type) << ", " << solved.set.name << ", " << regime.name);
        CHECK(wrong == 0);
      }
    }
  }
}
