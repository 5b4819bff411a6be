// The layers of the example: gradients against central differences, in double.

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
  Linear<double> linear(3, 2, true, 1.0, random);
  Batch<double> x = random_batch(4, 3, random);
  const Batch<double> dy = random_batch(4, 2, random);
  const auto loss = [&] {
    Batch<double> y;
    linear.forward(x, y);
    return matrix(y).cwiseProduct(matrix(dy)).sum();
  };

  std::vector<Parameter<double>> parameters = linear.parameters();
  REQUIRE(parameters.size() == 2);
  parameters[1].value << 0.5, -2;
  Batch<double> y;
  linear.forward(x, y);
  const auto& weight = parameters[0].value;  // [inputs, outputs], row after row
  for (Index sample = 0; sample < 4; ++sample) {
    const double first = x(sample, 0) * weight(0) + x(sample, 1) * weight(2) + x(sample, 2) * weight(4) + 0.5;
    CHECK(std::abs(y(sample, 0) - first) < 1e-14);
  }

  linear.set_gradients(x, dy);
  linear.set_gradients(x, dy);  // they are set, and do not add up
  for (Parameter<double>& parameter : parameters) {
    for (Index i = 0; i < parameter.value.size(); ++i) {
      CHECK(std::abs(parameter.gradient(i) - central_difference(parameter.value(i), loss)) < tolerance);
    }
  }

  Batch<double> dx;
  linear.backward(dy, dx);
  for (Index i = 0; i < x.size(); ++i) {
    CHECK(std::abs(dx.data()[i] - central_difference(x.data()[i], loss)) < tolerance);
  }
}

TEST_CASE("a linear layer without a bias has none to learn", "[layers]") {
  Random random(1);
  Linear<double> linear(3, 2, false, 1.0, random);
  CHECK(linear.parameters().size() == 1);
  const Batch<double> zero = Batch<double>(1, 3).setZero();
  Batch<double> y;
  linear.forward(zero, y);
  CHECK(y(0, 0) == 0);
}

TEST_CASE("the initial weights have the deviation asked for", "[layers]") {
  Random random(2);
  Linear<double> linear(200, 300, true, 0.01, random);
  const auto weight = linear.parameters()[0].value;
  const double deviation = std::sqrt(weight.square().mean());
  // 60,000 values estimate a deviation to 0.3 % (one standard error); this allows five of them.
  CHECK(std::abs(deviation / 0.01 - 1) < 0.015);
  CHECK(std::abs(weight.mean()) < 5 * deviation / std::sqrt(60000.0));
}

TEST_CASE("the sigmoid is 1 / (1 + exp(-x)) and does not overflow", "[layers]") {
  Batch<double> x(1, 4);
  x.setValues({{-1000.0, -1.5, 0.25, 1000.0}});
  Batch<double> y;
  activation_forward(Activation::sigmoid, x, y);
  CHECK(y(0, 0) == 0);
  CHECK(std::abs(y(0, 1) - 1 / (1 + std::exp(1.5))) < 1e-15);
  CHECK(std::abs(y(0, 2) - 1 / (1 + std::exp(-0.25))) < 1e-15);
  CHECK(y(0, 3) == 1);
}

TEST_CASE("dropout keeps the expected value and sets the share asked for to 0", "[layers]") {
  Random random(6);
  Batch<double> x(100, 400);
  x.setConstant(1.0);
  Batch<double> mask;
  dropout_forward(0.3, random, x, mask);
  // 40,000 values: the standard error of the share is 0.0023 and that of the mean 0.0033; this allows five of them.
  CHECK(std::abs((matrix(x).array() == 0).cast<double>().mean() - 0.3) < 0.0115);
  CHECK(std::abs(matrix(x).mean() - 1) < 0.0165);
  CHECK(matrix(x) == matrix(mask));
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

TEST_CASE("the network's gradients are those of its loss, with every activation, normalization and dropout",
          "[layers]") {
  for (const Activation activation : {Activation::relu, Activation::sigmoid}) {
    for (const bool batch_norm : {true, false}) {
      for (const double dropout : {0.0, 0.4}) {
        CAPTURE(activation == Activation::relu, batch_norm, dropout);
        Random random(4);
        NetworkShape shape;
        shape.inputs = 3;
        shape.hidden = {5, 4};
        shape.outputs = 3;
        shape.activation = activation;
        shape.batch_norm = batch_norm;
        shape.dropout = dropout;
        Network<double> network(shape, random);
        const Batch<double> x = random_batch(6, 3, random);
        const std::vector<int> labels = {0, 1, 2, 2, 1, 0};
        Batch<double> dlogits;
        const auto loss = [&] {
          Random same(7);  // the same values are dropped each time
          return softmax_cross_entropy(network.forward(x, same), labels, dlogits);
        };

        // Away from the initial biases of 0: a sample that no unit answers to would sit on the next ReLU's kink.
        std::vector<Parameter<double>> parameters = network.parameters();
        CHECK(parameters.size() == (batch_norm ? 8U : 6U));
        for (Parameter<double>& parameter : parameters) {
          for (double& value : parameter.value) value += 0.3 * random.normal();
        }

        loss();
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
  }
}

TEST_CASE("a frozen gamma or beta is no parameter of the network", "[layers]") {
  NetworkShape shape;
  shape.inputs = 4;
  shape.hidden = {3};
  shape.outputs = 2;
  const auto count = [&](bool gamma, bool beta) {
    shape.gamma = gamma;
    shape.beta = beta;
    Random random(5);
    return Network<float>(shape, random).parameters().size();
  };
  CHECK(count(true, true) == 5);  // two weights, gamma, beta, the output's bias
  CHECK(count(false, true) == 4);
  CHECK(count(true, false) == 4);
  CHECK(count(false, false) == 3);
}

TEST_CASE("with and without batch normalization a network starts from the same weights", "[layers]") {
  Random random_with(5);
  Random random_without(5);
  NetworkShape shape;
  shape.inputs = 4;
  shape.hidden = {3};
  shape.outputs = 2;
  shape.weight_scale = 2;
  Network<float> with(shape, random_with);
  shape.batch_norm = false;
  Network<float> without(shape, random_without);
  CHECK((with.parameters().front().value == without.parameters().front().value).all());
  const auto weights_of_output = [](Network<float>& network) { return *(network.parameters().end() - 2); };
  CHECK((weights_of_output(with).value == weights_of_output(without).value).all());
  CHECK(random_with.uniform() == random_without.uniform());
}

TEST_CASE("a step of gradient descent follows its formula", "[layers]") {
  double value = 1;
  double gradient = 2;
  std::vector<Parameter<double>> parameters{{&value, &gradient, 1}};
  sgd_step(parameters, 0.1);
  CHECK(std::abs(value - 0.8) < 1e-15);
}
