// BatchNorm::check_backward: a backward with another tensor than the forward's x is refused, and one with that x never.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <unsupported/Eigen/AutoDiff>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fragile.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::SingleValue;
using Catch::Matchers::Message;

using Layer = BatchNorm<float, 3>;
using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

template <class X>
X filled(X tensor, std::uint64_t seed) {
  Random random(seed);
  for (Eigen::Index i = 0; i < tensor.size(); ++i) {
    tensor.data()[i] = static_cast<typename X::Scalar>(static_cast<float>(random.uniform(-2, 3)));
  }
  return tensor;
}

template <class Call>
bool is_refused(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument&) {
    FAIL("an argument was found invalid");
  } catch (const std::logic_error& error) {
    const std::string start = "batchnorm: expected the x that went into the forward, got another tensor: its channel ",
                      end = "; a common mistake is to hand in the output of the forward in place of its input";
    const std::string message = error.what();
    CHECK(message.substr(0, start.size()) == start);
    CHECK(message.substr(message.size() - end.size()) == end);
    return true;
  }
  return false;
}

}  // namespace

TEST_CASE("the output in place of x is refused in every call shape, and nothing has changed") {
  const auto x = filled(Tensor(4, 3, 5), 1), dy = filled(Tensor(4, 3, 5), 2);
  const Eigen::DefaultDevice device;
  for (const bool training : {true, false}) {
    for (const bool affine : {true, false}) {
      Layer bn(BatchNormOptions(3).affine(affine));
      bn.check_backward(true).train(training);
      const Tensor y = bn.forward(x);
      const auto saved = bn.saved_statistics();
      bn.backward(x, dy);
      bn.forward(dy);
      const auto other = snapshot(bn);
      Tensor dx(4, 3, 5);
      dx.setConstant(7);
      CHECK(is_refused([&] { bn.backward(x, dy); }));
      CHECK(is_refused([&] { bn.backward(y, dy, saved); }));
      CHECK(is_refused([&] { bn.backward(device, y, dy, saved); }));
      CHECK(is_refused([&] { bn.backward(y, dy, dx, saved); }));
      CHECK(is_refused([&] { bn.backward(device, y, dy, dx, saved); }));
      CHECK(is_refused([&] { bn.backward(y + 0.0F, dy, dx, saved); }));
      CHECK(snapshot(bn) == other);
      CHECK(std::all_of(dx.data(), dx.data() + dx.size(), [](float v) { return v == 7; }));
      Tensor in_place = y;
      CHECK(is_refused([&] { bn.backward(in_place, dy, in_place, saved); }));
      CHECK(std::equal(y.data(), y.data() + y.size(), in_place.data()));
      CHECK_FALSE(is_refused([&] { bn.backward(x, dy, saved); }));
      CHECK_FALSE(is_refused([&] { bn.backward(dy, dy); }));
      // Another layer compares as well.
      Layer stranger(BatchNormOptions(3).affine(affine));
      CHECK_FALSE(is_refused([&] { stranger.backward(y, dy, saved); }));
      stranger.check_backward(true);
      CHECK(is_refused([&] { stranger.backward(y, dy, saved); }));
      CHECK_FALSE(is_refused([&] { stranger.backward(x, dy, saved); }));
    }
  }
}

TEST_CASE("the message names the first channel that differs, and what it is of both tensors") {
  Tensor x(2, 3, 1);
  x.setValues({{{4}, {0}, {1}}, {{6}, {2}, {3}}});
  auto other = x;
  other(0, 1, 0) = 1, other(1, 1, 0) = 3;  // the second channel
  other(1, 2, 0) = 9;
  Layer bn(3);
  bn.check_backward(true).forward(x);
  CHECK_THROWS_MATCHES(bn.backward(other, x), std::logic_error,
                       Message("batchnorm: expected the x that went into the forward, got another tensor: its channel "
                               "1 has mean 2 and variance 1, that of x had mean 1 and variance 1; a common mistake is "
                               "to hand in the output of the forward in place of its input"));
}

TEST_CASE("one value that is another is enough") {
  for (const auto& [outer, channels, inner] :
       {std::array<Eigen::Index, 3>{40, 3, 1}, {2, 3, 4000}, {4000, 5, 3}, {1, 3, 2}}) {
    const auto x = filled(Tensor(outer, channels, inner), 3);
    Layer bn(channels);
    bn.check_backward(true).forward(x);
    for (const Eigen::Index at : {Eigen::Index(0), x.size() / 3, x.size() - 1}) {
      auto other = x;
      other.data()[at] += 0.25F;
      CHECK(is_refused([&] { bn.backward(other, x); }));
    }
    CHECK_FALSE(is_refused([&] { bn.backward(x, x); }));
  }
}

TEST_CASE("x that a forward in place overwrote is another tensor, and a copy of it is x") {
  const auto dy = filled(Tensor(4, 3, 5), 5);
  for (const bool training : {true, false}) {
    const auto x = filled(Tensor(4, 3, 5), 4);
    auto buffer = x;
    Layer bn(3);
    bn.check_backward(true).train(training).forward(buffer, buffer);
    if (training) CHECK(is_refused([&] { bn.backward(buffer, dy); }));
    CHECK_FALSE(is_refused([&] { bn.backward(x, dy); }));
    CHECK_FALSE(is_refused([&] { bn.backward(x + 0.0F, dy); }));
  }
}

TEST_CASE("a forward without the check, or an x of the other layout, leaves nothing to compare with") {
  const auto x = filled(Tensor(4, 3, 5), 6), dy = filled(Tensor(4, 3, 5), 7);
  Layer bn(3);
  const Tensor y = bn.forward(x);
  CHECK_FALSE(is_refused([&] { bn.check_backward(true).backward(y, dy); }));
  bn.forward(x);
  CHECK(is_refused([&] { bn.backward(y, dy); }));
  CHECK_FALSE(is_refused([&] { bn.check_backward(false).backward(y, dy); }));
  bn.forward(x);
  CHECK_FALSE(is_refused([&] { bn.check_backward(true).backward(y, dy); }));

  // Nor the sums of an earlier forward.
  bn.forward(x);
  bn.forward(x);
  bn.check_backward(false).forward(dy);
  CHECK_FALSE(is_refused([&] { bn.check_backward(true).backward(dy, dy); }));

  // The same tensor by its values: what is handed in is not wrong, though its sums are taken in another order.
  const auto large = filled(Tensor(40, 3, 70), 14);
  bn.forward(large);
  const Tensor dx = bn.backward(large, large);
  const Eigen::array<int, 3> reversed{2, 1, 0};
  using Other = Eigen::Tensor<float, 3, Eigen::ColMajor>;
  const Other other = large.swap_layout().shuffle(reversed);
  Other dx_other(40, 3, 70);
  CHECK_FALSE(is_refused([&] { bn.backward(other, other, dx_other); }));
  CHECK(std::abs(dx_other(3, 2, 4) - dx(3, 2, 4)) < 1e-5F);
}

TEST_CASE("the check is part of a copy and of what is moved, and stays through modes and resets") {
  const auto x = filled(Tensor(4, 3, 5), 8), dy = filled(Tensor(4, 3, 5), 9);
  Layer bn(3);
  const Tensor y = bn.check_backward(true).forward(x);
  Layer copy = bn, moved = std::move(bn);
  for (Layer* layer : {&copy, &moved}) {
    layer->zero_grad().eval().reset_parameters();
    CHECK(layer->check_backward());
    CHECK(is_refused([&] { layer->backward(y, dy); }));
    CHECK_FALSE(is_refused([&] { layer->backward(x, dy); }));
  }
}

TEST_CASE("empty batches and single values are checked like any other") {
  for (const auto policy : {SingleValue::skip_update, SingleValue::use_running, SingleValue::allow}) {
    Layer bn(BatchNormOptions(3).single_value(policy));
    bn.check_backward(true);
    const auto x = filled(Tensor(1, 3, 1), 10), other = filled(Tensor(1, 3, 1), 11);
    const Tensor empty(0, 3, 1);
    for (int i = 0; i < 2; ++i) {
      bn.forward(x);
      CHECK_FALSE(is_refused([&] { bn.backward(x, x); }));
      CHECK(is_refused([&] { bn.backward(other, x); }));
      bn.forward(empty);
      CHECK_FALSE(is_refused([&] { bn.backward(empty, empty); }));
    }
  }
}

// By rows and by columns, of values that are and are not numbers: sums of the same values are the same.
TEMPLATE_TEST_CASE("no x of the forward is ever refused, and its output is", "", float, double, long double,
                   Eigen::half, Eigen::bfloat16, (Eigen::AutoDiffScalar<Eigen::Matrix<double, 2, 1>>)) {
  using X = Eigen::Tensor<TestType, 3>;
  const auto nan = static_cast<TestType>(std::numeric_limits<float>::quiet_NaN()),
             inf = static_cast<TestType>(std::numeric_limits<float>::infinity());
  for (const auto& [first, second, third] :
       {std::array<Eigen::Index, 3>{4, 3, 5}, {40, 3, 2}, {1, 3, 400}, {400, 70, 1}, {3, 1100, 3}}) {
    for (const int axis : {0, 1, 2}) {
      const auto x = filled(X(first, second, third), 12);
      if (x.size() == x.dimension(axis)) continue;  // one value per channel
      for (const int spoilt : {0, 1, 2}) {
        auto values = x;
        if (spoilt > 0) values.data()[x.size() / 2] = nan, values.data()[x.size() - 1] = TestType(-nan);
        if (spoilt > 1) values.data()[0] = inf, values.data()[1] = TestType(-inf);
        for (const bool training : {true, false}) {
          BatchNorm<TestType, 3> bn(BatchNormOptions(x.dimension(axis)).channel_axis(axis));
          bn.check_backward(true).train(training);
          bn.running_mean().setConstant(typename BatchNorm<TestType, 3>::Param(2.0F));
          X y(first, second, third), dx = y;
          bn.forward(values, y);
          CHECK_FALSE(is_refused([&] { bn.backward(values, x, dx); }));
          // The same values elsewhere in memory.
          std::vector<TestType> memory(static_cast<std::size_t>(x.size()) + 1);
          const Eigen::TensorMap<X> elsewhere(memory.data() + 1, first, second, third);
          std::copy(values.data(), values.data() + x.size(), memory.begin() + 1);
          CHECK_FALSE(is_refused([&] { bn.backward(elsewhere, x, dx); }));
          CHECK(is_refused([&] { bn.backward(y, x, dx); }));
        }
      }
    }
  }
}

TEST_CASE("numbers that cannot be printed are compared too") {
  using fragile::Fragile;
  using Numbers = Eigen::Tensor<Fragile, 3>;
  Fragile::multiplications_left = 0;  // no end of them
  const auto x = filled(Numbers(4, 3, 5), 13);
  BatchNorm<Fragile, 3> bn(3);
  Numbers y(4, 3, 5), dx(4, 3, 5);
  bn.check_backward(true).forward(x, y);
  CHECK_FALSE(is_refused([&] { bn.backward(x, x, dx); }));
  CHECK(is_refused([&] { bn.backward(y, x, dx); }));
}
