// The layers of the demo: gradients against central differences, in double.

#include <cmath>
#include <string>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../network.hpp"
#include "../sgd.hpp"
#include "../softmax_cross_entropy.hpp"

using namespace why_batch_norm;

namespace {

Batch<double> random_batch(Index samples, Index features, Random& random) {
  Batch<double> batch(samples, features);
  for (Index i = 0; i < batch.size(); ++i) batch.data()[i] = random.normal();
  return batch;
}

// (loss(value + step) - loss(value - step)) / (2 step). The step balances the rounding of the loss against the term of
// third order that the difference leaves out: both are near 1e-10 here.
template <typename Loss>
double central_difference(double& value, Loss loss) {
  constexpr double step = 1e-5;
  const double before = value;
  value = before + step;
  const double above = loss();
  value = before - step;
  const double below = loss();
  value = before;
  return (above - below) / (2 * step);
}

constexpr double tolerance = 1e-8;

}  // namespace

TEST_CASE("the linear layer is x W + b and its gradients are those of its forward", "[layers]") {
  Random random(1);
  Linear<double> linear(3, 2, 1.0, random);
  Batch<double> x = random_batch(4, 3, random);
  const Batch<double> dy = random_batch(4, 2, random);
  const auto loss = [&] {
    Batch<double> y;
    linear.forward(x, y);
    return matrix(y).cwiseProduct(matrix(dy)).sum();
  };

  std::vector<Parameter<double>> parameters = linear.parameters();
  parameters[1].value << 0.5, -2;
  Batch<double> y;
  linear.forward(x, y);
  const auto& weight = parameters[0].value;  // [inputs, outputs], row after row
  for (Index sample = 0; sample < 4; ++sample) {
    const double first = x(sample, 0) * weight(0) + x(sample, 1) * weight(2) + x(sample, 2) * weight(4) + 0.5;
    CHECK(std::abs(y(sample, 0) - first) < 1e-14);
  }

  linear.accumulate_gradients(x, dy);
  linear.accumulate_gradients(x, dy);  // gradients add up
  for (Parameter<double>& parameter : parameters) {
    for (Index i = 0; i < parameter.value.size(); ++i) {
      CHECK(std::abs(parameter.gradient(i) - 2 * central_difference(parameter.value(i), loss)) < tolerance);
    }
  }
  linear.zero_grad();
  CHECK((parameters[0].gradient == 0).all());
  CHECK((parameters[1].gradient == 0).all());

  Batch<double> dx;
  linear.backward(dy, dx);
  for (Index i = 0; i < x.size(); ++i) {
    CHECK(std::abs(dx.data()[i] - central_difference(x.data()[i], loss)) < tolerance);
  }
}

TEST_CASE("the initial weights have the deviation asked for", "[layers]") {
  Random random(2);
  Linear<double> linear(200, 300, 0.1, random);
  const auto weight = linear.parameters()[0].value;
  const double deviation = std::sqrt(weight.square().mean());
  // 60,000 values estimate a deviation to 0.3 % (one standard error); this allows five of them.
  CHECK(std::abs(deviation / (0.1 * std::sqrt(2.0 / 200)) - 1) < 0.015);
  CHECK(std::abs(weight.mean()) < 5 * deviation / std::sqrt(60000.0));
}

TEST_CASE("softmax and cross-entropy agree with their definition and their gradient", "[layers]") {
  Random random(3);
  Batch<double> logits = random_batch(5, 4, random);
  const std::vector<int> labels = {0, 3, 2, 1, 3};
  Batch<double> dlogits;
  Batch<double> unused;
  const double loss = softmax_cross_entropy(logits, labels, dlogits);

  double expected = 0;
  for (Index row = 0; row < 5; ++row) {
    double sum = 0;
    for (Index column = 0; column < 4; ++column) sum += std::exp(logits(row, column));
    expected -= std::log(std::exp(logits(row, labels[static_cast<std::size_t>(row)])) / sum) / 5;
  }
  CHECK(std::abs(loss - expected) < 1e-14);
  for (Index i = 0; i < logits.size(); ++i) {
    const double difference =
        central_difference(logits.data()[i], [&] { return softmax_cross_entropy(logits, labels, unused); });
    CHECK(std::abs(dlogits.data()[i] - difference) < tolerance);
  }
}

TEST_CASE("large logits do not overflow the softmax", "[layers]") {
  Batch<float> logits(1, 3);
  logits.setValues({{1000.0F, 0.0F, -1000.0F}});
  Batch<float> dlogits;
  CHECK(softmax_cross_entropy(logits, {0}, dlogits) == 0.0F);
  CHECK(softmax_cross_entropy(logits, {2}, dlogits) == 2000.0F);
  CHECK(dlogits(0, 0) == 1.0F);
  CHECK(dlogits(0, 2) == -1.0F);
}

TEST_CASE("the network's gradients are those of its loss, with and without batch normalization", "[layers]") {
  for (const bool batch_norm : {true, false}) {
    CAPTURE(batch_norm);
    Random random(4);
    Network<double> network({3, {5, 4}, 3}, batch_norm, 1.0, random);
    const Batch<double> x = random_batch(6, 3, random);
    const std::vector<int> labels = {0, 1, 2, 2, 1, 0};
    Batch<double> dlogits;
    const auto loss = [&] { return softmax_cross_entropy(network.forward(x), labels, dlogits); };

    // Away from the initial biases of 0: a sample that no unit answers to would sit on the next ReLU's kink.
    std::vector<Parameter<double>> parameters = network.parameters();
    CHECK(parameters.size() == (batch_norm ? 10U : 6U));
    for (Parameter<double>& parameter : parameters) {
      for (double& value : parameter.value) value += 0.3 * random.normal();
    }

    loss();
    network.zero_grad();
    network.backward(x, dlogits);
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      for (Index i = 0; i < parameters[p].value.size(); ++i) {
        CAPTURE(p, i);
        const double gradient = parameters[p].gradient(i);
        CHECK(std::abs(gradient - central_difference(parameters[p].value(i), loss)) < tolerance);
      }
    }
  }
}

TEST_CASE("with and without batch normalization a network starts from the same weights", "[layers]") {
  Random random_with(5);
  Random random_without(5);
  const NetworkShape shape{4, {3}, 2};
  Network<float> with(shape, true, 2.0, random_with);
  Network<float> without(shape, false, 2.0, random_without);
  CHECK((with.parameters().front().value == without.parameters().front().value).all());
  CHECK((with.parameters().back().value == without.parameters().back().value).all());
  CHECK(random_with.uniform() == random_without.uniform());
}

TEST_CASE("a step of the optimizer follows its formula", "[layers]") {
  double value = 1;
  double gradient = 2;
  Sgd<double> optimizer({{&value, &gradient, 1}}, 0.5);
  optimizer.step(0.1);  // velocity 2
  CHECK(std::abs(value - 0.8) < 1e-15);
  gradient = 1;
  optimizer.step(0.1);  // velocity 0.5 * 2 + 1 = 2
  CHECK(std::abs(value - 0.6) < 1e-15);
}
