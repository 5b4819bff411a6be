// The layer's state: what it is at first, what changes it, and what does not.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <thread>
#include <type_traits>
#include <unsupported/Eigen/AutoDiff>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using Catch::Matchers::Message;
using Layer = BatchNorm<float, 3>;
using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

Tensor random_tensor(std::uint64_t seed, Eigen::Index batch = 4) {
  Random random(seed);
  Tensor tensor(batch, 3, 5);
  for (Eigen::Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<float>(random.uniform(-2, 3));
  return tensor;
}

template <class A, class B>
bool same(const A& a, const B& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

template <class V>
std::vector<float> values(const V& v) {
  return {v.data(), v.data() + v.size()};
}

State<float> state_of(const Layer& bn) {
  return {values(bn.weight()),      values(bn.bias()),      values(bn.running_mean()), values(bn.running_var()),
          values(bn.weight_grad()), values(bn.bias_grad()), bn.num_batches_tracked(),  bn.is_training()};
}

const std::vector<float> zeros(3, 0.0F), ones(3, 1.0F), none;

}  // namespace

TEST_CASE("a new layer trains, scales by 1, shifts by 0, and has running statistics of 0 and 1") {
  const Layer bn(3);
  CHECK(state_of(bn) == State<float>{ones, zeros, zeros, ones, zeros, zeros, 0, true});
  CHECK(bn.options().num_features() == 3);
}

TEST_CASE("what an option switches off has size 0 and stays so") {
  const auto used = [](const BatchNormOptions& options) {
    Layer bn(options);
    bn.forward(random_tensor(1));
    bn.backward(random_tensor(1), random_tensor(2));
    bn.zero_grad();
    bn.reset_parameters();
    return state_of(bn);
  };
  CHECK(used(BatchNormOptions(3).scale(false)) == State<float>{none, zeros, zeros, ones, none, zeros, 0, true});
  CHECK(used(BatchNormOptions(3).shift(false)) == State<float>{ones, none, zeros, ones, zeros, none, 0, true});
  CHECK(used(BatchNormOptions(3).track_running_stats(false)) ==
        State<float>{ones, zeros, none, none, zeros, zeros, 0, true});
  CHECK(used(BatchNormOptions(3).affine(false).track_running_stats(false)) ==
        State<float>{none, none, none, none, none, none, 0, true});
}

TEST_CASE("parameters and statistics are float for the 16-bit types, else of the tensor's type; sums are double") {
  STATIC_REQUIRE(std::is_same_v<BatchNorm<Eigen::half, 2>::Param, float>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<Eigen::bfloat16, 2>::Param, float>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<Eigen::half, 2>::Vector, Eigen::Tensor<float, 1>>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<Eigen::half, 2>::Accumulator, double>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<float, 2>::Param, float>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<double, 2>::Param, double>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<long double, 2>::Param, long double>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<float, 2>::Vector, Eigen::Tensor<float, 1>>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<float, 2>::Accumulator, double>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<double, 2>::Accumulator, double>);
  STATIC_REQUIRE(std::is_same_v<BatchNorm<long double, 2>::Accumulator, long double>);
}

TEST_CASE("state is a reference to write to, and const on a const layer") {
  using Vector = Layer::Vector;
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().weight()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().bias()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().running_mean()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().running_var()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().weight_grad()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<Layer&>().bias_grad()), Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().weight()), const Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().bias()), const Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().running_mean()), const Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().running_var()), const Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().weight_grad()), const Vector&>);
  STATIC_REQUIRE(std::is_same_v<decltype(std::declval<const Layer&>().bias_grad()), const Vector&>);
}

TEST_CASE("the state stays at one place in memory, for who keeps pointers to it") {
  Layer bn(3);
  const auto pointers = [&bn] {
    return std::vector<const float*>{bn.weight().data(),      bn.bias().data(),        bn.running_mean().data(),
                                     bn.running_var().data(), bn.weight_grad().data(), bn.bias_grad().data()};
  };
  const auto before = pointers();
  const auto x = random_tensor(31), dy = random_tensor(32);
  for (int step = 0; step < 3; ++step) {
    bn.forward(x);
    bn.backward(x, dy);
    CHECK(pointers() == before);
  }
  bn.zero_grad();
  bn.reset_parameters();
  bn.eval().forward(x);
  CHECK(pointers() == before);
}

TEST_CASE("setters of the mode and the state return the layer") {
  Layer bn(3);
  CHECK(&bn.train() == &bn);
  CHECK(bn.is_training());
  CHECK(&bn.eval() == &bn);
  CHECK_FALSE(bn.is_training());
  CHECK(&bn.train(true) == &bn);
  CHECK(bn.is_training());
  CHECK(&bn.train(false) == &bn);
  CHECK_FALSE(bn.is_training());
  CHECK(&bn.zero_grad() == &bn);
  CHECK(&bn.reset_running_stats() == &bn);
  CHECK(&bn.reset_parameters() == &bn);
  CHECK_FALSE(bn.check_backward());
  CHECK(&bn.check_backward(true) == &bn);
  CHECK(bn.check_backward());
}

TEST_CASE("reset_running_stats resets the statistics and their count, and nothing else") {
  Layer bn(3);
  bn.weight().setConstant(2);
  bn.bias().setConstant(3);
  const auto x = random_tensor(3), dy = random_tensor(4);
  bn.forward(x);
  bn.backward(x, dy);
  const auto before = state_of(bn);
  REQUIRE(before.running_mean != zeros);
  REQUIRE(before.running_var != ones);
  REQUIRE(before.batches == 1);
  bn.reset_running_stats();
  auto expected = before;
  expected.running_mean = zeros;
  expected.running_var = ones;
  expected.batches = 0;
  CHECK(state_of(bn) == expected);
}

TEST_CASE("reset_parameters resets weight, bias and the statistics too, as in PyTorch") {
  Layer bn(3);
  bn.weight().setConstant(2);
  bn.bias().setConstant(3);
  const auto x = random_tensor(3), dy = random_tensor(4);
  bn.forward(x);
  bn.backward(x, dy);
  bn.eval();
  auto expected = state_of(bn);
  bn.reset_parameters();
  expected.weight = expected.running_var = ones;
  expected.bias = expected.running_mean = zeros;
  expected.batches = 0;
  CHECK(state_of(bn) == expected);  // the gradients and the mode are the user's
}

TEST_CASE("gradients add up until zero_grad") {
  Layer bn(3);
  const auto x = random_tensor(5), dy = random_tensor(6);
  bn.forward(x);
  const auto dx = bn.backward(x, dy);
  const auto once = state_of(bn);
  CHECK(same(bn.backward(x, dy), dx));
  const auto twice = state_of(bn);
  for (std::size_t c = 0; c < 3; ++c) {  // to one rounding of the sum
    CHECK(std::abs(twice.weight_grad[c] - 2 * once.weight_grad[c]) <= 1e-6F * std::abs(once.weight_grad[c]));
    CHECK(std::abs(twice.bias_grad[c] - 2 * once.bias_grad[c]) <= 1e-6F * std::abs(once.bias_grad[c]));
  }
  bn.zero_grad();
  CHECK(state_of(bn).weight_grad == zeros);
  CHECK(state_of(bn).bias_grad == zeros);
  bn.backward(x, dy);
  CHECK(state_of(bn) == once);
}

TEST_CASE("what the user writes to the parameters counts at the next call") {
  Layer bn(3);
  const auto x = random_tensor(7);
  bn.running_mean().setConstant(1);
  bn.running_var().setConstant(4);
  bn.weight().setConstant(6);
  bn.bias().setConstant(-1);
  const auto y = bn.infer(x);
  float worst = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(y.data()[i] - ((x.data()[i] - 1) * 3 - 1)));
  }
  CHECK(worst < 5e-5F);  // epsilon 1e-5 in the variance of 4, on values up to 10
  bn.weight() = Layer::Vector(3);
  bn.weight().setConstant(0);
  const auto constant = bn.infer(x);
  CHECK(std::all_of(constant.data(), constant.data() + constant.size(), [](float v) { return v == -1; }));
}

TEST_CASE("infer is inference whatever the mode, and touches no state") {
  Layer bn(3);
  const auto x = random_tensor(8), other = random_tensor(9), dy = random_tensor(10);
  bn.forward(x);
  const auto saved_run = Layer(bn).backward(x, dy);
  const auto before = state_of(bn);
  const auto in_training = std::as_const(bn).infer(other);
  CHECK(state_of(bn) == before);
  CHECK(same(bn.backward(x, dy), saved_run));  // still through the forward, not through infer
  bn.eval();
  CHECK(same(bn.infer(other), in_training));
  CHECK(same(bn.forward(other), in_training));
  CHECK_FALSE(same(bn.train().forward(other), in_training));
}

TEST_CASE("infer without running statistics uses those of the batch") {
  Layer bn(BatchNormOptions(3).track_running_stats(false));
  const auto x = random_tensor(11);
  const auto y = bn.forward(x);
  CHECK(same(bn.infer(x), y));
  bn.eval();
  CHECK(same(bn.forward(x), y));
}

TEST_CASE("infer may be called from many threads at once") {
  Layer bn(3);
  for (std::uint64_t seed = 0; seed < 3; ++seed) bn.forward(random_tensor(seed, 8));
  Layer untracked(BatchNormOptions(3).track_running_stats(false));
  const auto x = random_tensor(12, 40);
  const auto expected = bn.infer(x), expected_untracked = untracked.infer(x);
  std::vector<int> wrong(6, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      Tensor y(40, 3, 5);
      Eigen::DefaultDevice device;
      for (int i = 0; i < 50; ++i) {
        std::as_const(bn).infer(x, y);
        wrong[t] += !same(y, expected);
        wrong[t] += !same(std::as_const(bn).infer(device, x), expected);
        wrong[t] += !same(std::as_const(untracked).infer(x), expected_untracked);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == std::vector<int>(6, 0));
}

TEST_CASE("backward follows the last forward's statistics whatever the mode is now") {
  const auto x = random_tensor(13), dy = random_tensor(14);
  Layer trained(3), frozen(3);
  trained.forward(x);
  frozen.forward(x);
  frozen.eval();
  CHECK(same(trained.backward(x, dy), frozen.backward(x, dy)));  // the forward was in training
  frozen.forward(x);
  const auto constant = frozen.backward(x, dy);
  frozen.train();
  CHECK(same(frozen.backward(x, dy), constant));  // the forward was in inference
  CHECK_FALSE(same(trained.backward(x, dy), constant));
}

TEST_CASE("changing or resetting the running statistics after a forward in inference does not reach its backward") {
  const auto x = random_tensor(15), dy = random_tensor(16);
  Layer bn(3);
  bn.running_var().setConstant(4);
  bn.eval();
  bn.forward(x);
  const auto dx = bn.backward(x, dy);
  const auto gradients = state_of(bn);
  bn.zero_grad();
  bn.reset_running_stats();
  bn.running_mean().setConstant(100);
  CHECK(same(bn.backward(x, dy), dx));
  CHECK(state_of(bn).weight_grad == gradients.weight_grad);
}

TEST_CASE("backward uses the present weight") {
  const auto x = random_tensor(17), dy = random_tensor(18);
  Layer bn(3);
  bn.forward(x);
  const auto dx = bn.backward(x, dy);
  const auto grad = state_of(bn).weight_grad;
  bn.weight().setConstant(2);
  bn.zero_grad();
  const auto doubled = bn.backward(x, dy);
  bool twice = true;
  for (Eigen::Index i = 0; i < dx.size(); ++i) twice = twice && doubled.data()[i] == 2 * dx.data()[i];
  CHECK(twice);
  CHECK(state_of(bn).weight_grad == grad);  // dy x_hat has no weight in it
}

TEST_CASE("saved_statistics handed to backward goes back through an earlier forward, in all four call shapes") {
  const auto x1 = random_tensor(19), x2 = random_tensor(20), dy = random_tensor(21);
  Eigen::DefaultDevice device;
  Layer bn(3);
  bn.forward(x1);
  const auto first = bn.saved_statistics();
  const auto expected = Layer(bn).backward(x1, dy);
  bn.forward(x2);
  bn.eval();
  bn.forward(x2);
  const auto latest = Layer(bn).backward(x2, dy);
  Tensor dx(4, 3, 5);
  CHECK(same(bn.backward(x1, dy, first), expected));
  CHECK(same(bn.backward(device, x1, dy, first), expected));
  bn.backward(x1, dy, dx, first);
  CHECK(same(dx, expected));
  dx.setZero();
  bn.backward(device, x1, dy, dx, first);
  CHECK(same(dx, expected));
  CHECK(same(bn.backward(x2, dy), latest));  // and the layer still holds its own

  Layer stranger(3);  // the statistics are a value: another layer can go back through them
  CHECK(same(stranger.backward(x1, dy, first), expected));
}

TEST_CASE("a copy of a layer is a layer of its own") {
  Layer bn(3);
  const auto x = random_tensor(22), dy = random_tensor(23);
  bn.forward(x);
  Layer copy = bn;
  const auto before = state_of(bn);
  CHECK(state_of(copy) == before);
  copy.forward(random_tensor(24));
  copy.weight().setConstant(5);
  copy.eval();
  CHECK(state_of(bn) == before);
  Layer moved = std::move(copy);
  CHECK_FALSE(moved.is_training());
  const auto dx = bn.backward(x, dy);
  Layer assigned(3);
  assigned = bn;
  CHECK(same(assigned.backward(x, dy), dx));
}

TEST_CASE("a layer converts from a number of channels and from options") {
  Layer from_number = 3, from_options = BatchNormOptions(3).scale(false);
  CHECK(from_number.options().num_features() == 3);
  CHECK(from_options.weight().size() == 0);
  const std::vector<Layer> layers{3, 5};
  CHECK(layers.size() == 2);
  CHECK(layers.back().options().num_features() == 5);
  CHECK_THROWS_AS(Layer(0), std::invalid_argument);
}

TEMPLATE_TEST_CASE("layers and their statistics move without throwing, so that a growing vector does not copy them", "",
                   float, double, long double, Eigen::half, (Eigen::AutoDiffScalar<Eigen::VectorXd>)) {
  using Bn = BatchNorm<TestType, 4>;
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Bn>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<Bn>);
  STATIC_REQUIRE(std::is_copy_constructible_v<Bn>);
  STATIC_REQUIRE(std::is_copy_assignable_v<Bn>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<typename Bn::SavedStatistics>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<typename Bn::SavedStatistics>);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<batchnorm::BasicMoments<typename Bn::Accumulator>>);
  STATIC_REQUIRE(std::is_nothrow_move_assignable_v<batchnorm::BasicMoments<typename Bn::Accumulator>>);
}

TEST_CASE("a growing vector moves its layers: their state stays where it is in memory") {
  std::vector<Layer> layers;
  layers.emplace_back(3);
  layers[0].forward(random_tensor(34));
  const auto before = state_of(layers[0]);
  const float* const mean = layers[0].running_mean().data();
  while (layers.size() < 10) layers.emplace_back(3);
  CHECK(layers[0].running_mean().data() == mean);
  CHECK(state_of(layers[0]) == before);
}

TEST_CASE("a moved-from layer says so, writes nowhere, and can be assigned to, whatever its options") {
  const auto x = random_tensor(35), dy = random_tensor(36);
  const auto message = Message("batchnorm: expected a layer, got one that was moved from");
  for (const bool scale : {true, false}) {
    for (const bool shift : {true, false}) {
      for (const bool track : {true, false}) {
        for (const bool assigned : {true, false}) {
          Layer bn(BatchNormOptions(3).scale(scale).shift(shift).track_running_stats(track));
          bn.check_backward(true).forward(x);
          Layer original = bn, taken = bn;
          if (assigned) {
            taken.forward(dy);
            taken = std::move(bn);
          } else {
            taken = Layer(std::move(bn));
          }
          CHECK(state_of(taken) == state_of(original));
          CHECK(same(taken.backward(x, dy), original.backward(x, dy)));

          // NOLINTBEGIN(bugprone-use-after-move)
          Tensor y(4, 3, 5);
          y.setConstant(7);
          const Tensor untouched = y;
          for (const bool training : {true, false}) {
            bn.train(training);
            CHECK_THROWS_MATCHES(bn.forward(x, y), std::logic_error, message);
            CHECK_THROWS_MATCHES(bn.infer(x, y), std::logic_error, message);
          }
          CHECK_THROWS_AS(bn.backward(x, dy, y), std::logic_error);
          CHECK_THROWS_MATCHES(bn.backward(x, dy, y, original.saved_statistics()), std::logic_error, message);
          CHECK(same(y, untouched));
          bn.zero_grad().reset_parameters().check_backward(true).num_batches_tracked(0);
          CHECK_FALSE(bn.saved_statistics().has_forward());
          Layer copy = bn;
          CHECK_THROWS_MATCHES(copy.infer(x), std::logic_error, message);
          CHECK_THROWS_MATCHES(Layer(std::move(bn)).infer(x), std::logic_error, message);
          bn = original;
          CHECK(same(bn.backward(x, dy), Layer(original).backward(x, dy)));
          // NOLINTEND(bugprone-use-after-move)
        }
      }
    }
  }
}

TEST_CASE("a layer that is assigned to itself stays what it was") {
  Layer bn(3);
  bn.check_backward(true);
  const auto x = random_tensor(37), dy = random_tensor(38);
  bn.forward(x);
  Layer same_again = bn;
  Layer& itself = bn;
  bn = std::move(itself);
  CHECK(same(bn.backward(x, dy), same_again.backward(x, dy)));
  CHECK(state_of(bn) == state_of(same_again));
  bn = itself;
  CHECK(same(bn.forward(x), same_again.forward(x)));
}

TEST_CASE("statistics that were moved from are those of no forward") {
  Layer bn(3);
  const auto x = random_tensor(39), dy = random_tensor(40);
  bn.forward(x);
  auto first = bn.saved_statistics(), second = first;
  second = std::move(first);
  CHECK(same(bn.backward(x, dy, second), Layer(bn).backward(x, dy)));
  CHECK_FALSE(first.has_forward());  // NOLINT(bugprone-use-after-move)
  CHECK_THROWS_MATCHES(bn.backward(x, dy, first), std::logic_error,
                       Message("batchnorm: expected a forward before backward, got none"));
}

TEST_CASE("num_batches_tracked counts training batches that are not empty") {
  Layer bn(3);
  bn.forward(random_tensor(25));
  bn.forward(random_tensor(26, 0));
  bn.forward(random_tensor(26));
  bn.infer(random_tensor(27));
  bn.eval();
  bn.forward(random_tensor(28));
  CHECK(bn.num_batches_tracked() == 2);
  Layer untracked(BatchNormOptions(3).track_running_stats(false));
  untracked.forward(random_tensor(25));
  CHECK(untracked.num_batches_tracked() == 0);
}

TEST_CASE("a momentum of nullopt gives the plain average of all batches") {
  Layer bn(BatchNormOptions(3).momentum(std::nullopt));
  Eigen::Tensor<float, 3> x(2, 3, 1);
  for (const float value : {3.0F, 5.0F, 10.0F}) {
    x.setValues({{{value - 1}, {0}, {0}}, {{value + 1}, {0}, {0}}});
    bn.forward(x);
  }
  CHECK(std::abs(bn.running_mean()(0) - 6) < 1e-6F);
  CHECK(std::abs(bn.running_var()(0) - 2) < 1e-6F);  // unbiased: 2 / (2 - 1)
  CHECK(bn.running_mean()(1) == 0);
  CHECK(bn.running_var()(1) == 0);
}

TEST_CASE("an empty batch has no share in the running statistics, wherever it comes, whatever the momentum") {
  Eigen::Tensor<float, 3> x(4, 1, 1), empty(0, 1, 1), flat(4, 1, 0);
  x.setValues({{{10}}, {{11}}, {{12}}, {{13}}});
  for (const std::optional<double> momentum : {std::optional<double>(), std::optional<double>(0.5)}) {
    Layer with(BatchNormOptions(1).momentum(momentum)), without(BatchNormOptions(1).momentum(momentum));
    with.forward(empty);
    CHECK(with.num_batches_tracked() == 0);
    CHECK(with.running_var()(0) == 1);
    for (int batch = 0; batch < 3; ++batch) {
      with.forward(x);
      without.forward(x);
      with.forward(flat);
      with.forward(empty);
      CHECK(state_of(with) == state_of(without));
    }
    CHECK(with.num_batches_tracked() == 3);
    if (!momentum) CHECK(with.running_mean()(0) == 11.5F);
  }
}

TEST_CASE("the running statistics of a checkpoint are restored, and their cumulative average goes on") {
  const auto options = BatchNormOptions(3).momentum(std::nullopt);
  Layer whole(options), first(options), restored(options);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    whole.forward(random_tensor(seed));
    if (seed < 3) first.forward(random_tensor(seed));
  }
  restored.running_mean() = first.running_mean();
  restored.running_var() = first.running_var();
  CHECK(&restored.num_batches_tracked(first.num_batches_tracked()) == &restored);
  CHECK(restored.num_batches_tracked() == 3);
  for (std::uint64_t seed = 3; seed < 5; ++seed) restored.forward(random_tensor(seed));
  CHECK(state_of(restored) == state_of(whole));
  CHECK(restored.reset_running_stats().num_batches_tracked() == 0);
}

TEST_CASE("a number of batches that is negative, or not 0 without running statistics, is refused") {
  Layer bn(3);
  bn.num_batches_tracked(7);
  CHECK_THROWS_MATCHES(bn.num_batches_tracked(-1), std::invalid_argument,
                       Message("batchnorm: expected num_batches_tracked of at least 0, got -1"));
  CHECK(bn.num_batches_tracked() == 7);
  Layer untracked(BatchNormOptions(3).track_running_stats(false));
  CHECK_THROWS_MATCHES(
      untracked.num_batches_tracked(7), std::invalid_argument,
      Message("batchnorm: expected num_batches_tracked of 0 for a layer without running statistics, got 7"));
  CHECK(untracked.num_batches_tracked() == 0);
  CHECK(untracked.num_batches_tracked(0).num_batches_tracked() == 0);  // what such a layer itself tells
}

TEST_CASE("the largest number of batches stays what it is") {
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  Layer bn(BatchNormOptions(3).momentum(std::nullopt));
  bn.num_batches_tracked(most);
  bn.forward(random_tensor(30));
  CHECK(bn.num_batches_tracked() == most);
  CHECK(std::abs(bn.running_mean()(0)) < 1e-17F);  // a share of 1e-19
}

TEST_CASE("a momentum of 1 keeps the last batch, a momentum of 0 the start") {
  Eigen::Tensor<float, 3> x(2, 3, 1);
  x.setValues({{{2}, {4}, {6}}, {{4}, {8}, {12}}});
  Layer last(BatchNormOptions(3).momentum(1.0)), start(BatchNormOptions(3).momentum(0.0));
  last.forward(random_tensor(29));
  last.forward(x);
  start.forward(x);
  CHECK(values(last.running_mean()) == std::vector<float>{3, 6, 9});
  CHECK(values(last.running_var()) == std::vector<float>{2, 8, 18});
  CHECK(values(start.running_mean()) == zeros);
  CHECK(values(start.running_var()) == ones);
}

namespace {

// Not all of a long double's bytes are its value's, and an AutoDiffScalar has derivatives besides.
template <class P>
bool same_bits(const P& a, const P& b) {
  if constexpr (std::is_same_v<P, float> || std::is_same_v<P, double>) {
    return std::memcmp(&a, &b, sizeof(P)) == 0;
  } else {
    return a == b || (!(a == a) && !(b == b));
  }
}

}  // namespace

// More channels than one pack of numbers has, and a number of them that leaves some over.
TEMPLATE_TEST_CASE("a momentum of 0 keeps every bit and 1 takes the batch, also beside a NaN or an infinity", "", float,
                   double, long double, Eigen::half, Eigen::bfloat16,
                   (Eigen::AutoDiffScalar<Eigen::Matrix<double, 2, 1>>)) {
  using Bn = BatchNorm<TestType, 2>;
  using Param = typename Bn::Param;
  constexpr Eigen::Index channels = 7;
  const Param nan(std::numeric_limits<double>::quiet_NaN()), inf(std::numeric_limits<double>::infinity());
  const Param bad[] = {nan, inf, Param(-inf), Param(-nan)};
  Eigen::Tensor<TestType, 2> good(2, channels), spoilt(2, channels);
  for (Eigen::Index c = 0; c < channels; ++c) {
    good(0, c) = TestType(static_cast<float>(c)), good(1, c) = TestType(static_cast<float>(c + 2));
    spoilt(0, c) = TestType(1.0F), spoilt(1, c) = static_cast<TestType>(bad[c % 4]);
  }
  const auto spoil = [&](Bn& bn) {
    for (Eigen::Index c = 0; c < channels; ++c) {
      bn.running_mean()(c) = c % 2 == 0 ? bad[c / 2] : Param(0.1F);
      bn.running_var()(c) = c % 2 == 1 ? bad[c / 2] : Param(0.3F);
    }
  };

  Bn start(BatchNormOptions(channels).momentum(0.0));
  for (const auto* batch : {&good, &spoilt}) {
    spoil(start);
    const Bn before = start;
    start.forward(*batch);
    for (Eigen::Index c = 0; c < channels; ++c) {
      CHECK(same_bits(start.running_mean()(c), before.running_mean()(c)));
      CHECK(same_bits(start.running_var()(c), before.running_var()(c)));
    }
  }
  CHECK(start.num_batches_tracked() == 2);

  Bn last(BatchNormOptions(channels).momentum(1.0)), cumulative(BatchNormOptions(channels).momentum(std::nullopt));
  for (Bn* bn : {&last, &cumulative}) {
    spoil(*bn);
    bn->forward(good);
    for (Eigen::Index c = 0; c < channels; ++c) {
      CHECK(bn->running_mean()(c) == Param(static_cast<float>(c + 1)));
      CHECK(bn->running_var()(c) == Param(2.0F));  // unbiased: 2 / (2 - 1)
    }
  }
}

TEST_CASE("a momentum of 0 keeps the payload of a NaN") {
  const std::uint32_t payload = 0x7fa12345;  // of a signalling one
  Layer bn(BatchNormOptions(3).momentum(0.0));
  std::memcpy(bn.running_mean().data() + 2, &payload, sizeof(payload));
  std::memcpy(bn.running_var().data(), &payload, sizeof(payload));
  bn.forward(random_tensor(33));
  CHECK(std::memcmp(bn.running_mean().data() + 2, &payload, sizeof(payload)) == 0);
  CHECK(std::memcmp(bn.running_var().data(), &payload, sizeof(payload)) == 0);
}

TEMPLATE_TEST_CASE("a channel whose evenly spaced values lie far from its mean is as exact as any", "", float, double) {
  constexpr int n = 1 << 17;
  std::vector<TestType> values(n);
  for (int k = 0; k < n; ++k) {
    values[static_cast<std::size_t>(k)] = static_cast<TestType>(std::sin(k) + (k % (n / 8) == 0 ? 1e4 : 0));
  }
  long double mean = 0, M2 = 0;
  for (const TestType value : values) mean += value;
  mean /= n;
  for (const TestType value : values) M2 += (value - mean) * (value - mean);

  // About a value 1e4 from the mean, squares are 25,000 times those about the mean, and so are their rounding errors.
  const long double tolerance = std::is_same_v<TestType, float> ? 1e-6L : 1e-13L;
  for (const bool by_rows : {false, true}) {
    CAPTURE(by_rows);
    Eigen::Tensor<TestType, 3, Eigen::RowMajor> x(by_rows ? 1 : n, 2, by_rows ? n : 1);
    for (int k = 0; k < n; ++k) {
      for (int c = 0; c < 2; ++c) (by_rows ? x(0, c, k) : x(k, c, 0)) = values[static_cast<std::size_t>(k)];
    }
    BatchNorm<TestType, 3> bn(BatchNormOptions(2).momentum(1.0).running_variance(batchnorm::Variance::biased));
    bn.forward(x);
    for (int c = 0; c < 2; ++c) {
      CHECK(std::abs(bn.running_var()(c) / (M2 / n) - 1) <= tolerance);
      CHECK(std::abs(bn.running_mean()(c) - mean) <= tolerance * std::sqrt(M2 / n));
    }
  }
}
