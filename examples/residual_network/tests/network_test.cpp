// The network of the example: its gradients against finite differences, and fused against not.

#include "../network.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../../why_batch_norm/draw_digits.hpp"
#include "../../why_batch_norm/softmax_cross_entropy.hpp"
#include "../training.hpp"

using namespace residual_network;
using why_batch_norm::Parameter;
using why_batch_norm::Random;
using why_batch_norm::softmax_cross_entropy;

namespace {

constexpr Mode all_modes[] = {Mode::fused, Mode::unfused, Mode::in_place};

template <typename T>
Tensor4<T> random_images(Index samples, Index channels, Index height, Index width, Random& random) {
  Tensor4<T> images(samples, channels, height, width);
  for (Index i = 0; i < images.size(); ++i) images.data()[i] = static_cast<T>(random.normal());
  return images;
}

// The same network in every mode, of two channels in, with weights and biases of batch normalization that are not 1 and
// 0.
template <typename T>
Network<T> small_network(Mode mode) {
  Random random(1);
  Network<T> network({2, 3, 2, 3}, mode, random);
  for (Parameter<T>& parameter : network.parameters()) {
    for (T& value : parameter.value) value += static_cast<T>(0.2 * random.normal());
  }
  return network;
}

const std::vector<int> labels = {0, 2, 1, 2};

// The losses of `steps` steps.
template <typename T>
std::vector<double> train_small(Mode mode, int steps) {
  Random random(2);
  const Tensor4<T> images = random_images<T>(4, 2, 5, 4, random);
  Network<T> network = small_network<T>(mode);
  MomentumSgd<T> optimizer(network.parameters(), 0.9);
  Batch<T> dlogits;
  std::vector<double> losses;
  for (int step = 0; step < steps; ++step) {
    losses.push_back(static_cast<double>(softmax_cross_entropy(network.forward(images), labels, dlogits)));
    network.backward(images, dlogits);
    optimizer.step(0.05);
  }
  return losses;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("the convolution is the sum over 3 x 3 pixels and all inputs, with zeros outside", "[residual_network]") {
  Random random(3);
  for (const Index width : {1, 4}) {
    const Tensor4<double> x = random_images<double>(2, 3, 5, width, random);
    Convolution<double> convolution(3, 2, random);
    const auto weight = convolution.parameter().value;
    Tensor4<double> y;
    convolution.forward(x, y);
    REQUIRE(y.dimensions() == Tensor4<double>::Dimensions(2, 2, 5, width));
    for (Index n = 0; n < 2; ++n) {
      for (Index output = 0; output < 2; ++output) {
        for (Index row = 0; row < 5; ++row) {
          for (Index column = 0; column < width; ++column) {
            double sum = 0;
            for (Index input = 0; input < 3; ++input) {
              for (Index i = 0; i < 9; ++i) {
                const Index r = row + i / 3 - 1;
                const Index c = column + i % 3 - 1;
                if (r < 0 || r >= 5 || c < 0 || c >= width) continue;
                sum += weight((output * 3 + input) * 9 + i) * x(n, input, r, c);
              }
            }
            CHECK(std::abs(y(n, output, row, column) - sum) < 1e-13);  // 27 products near 1
          }
        }
      }
    }
  }
}

TEST_CASE("the network's gradients are those of its loss, fused and not", "[residual_network]") {
  for (const Mode mode : all_modes) {
    CAPTURE(static_cast<int>(mode));
    Random random(2);
    const Tensor4<double> images = random_images<double>(4, 2, 5, 4, random);
    Network<double> network = small_network<double>(mode);
    Batch<double> dlogits;
    Batch<double> unused;
    softmax_cross_entropy(network.forward(images), labels, dlogits);
    network.backward(images, dlogits);

    std::vector<Parameter<double>> parameters = network.parameters();
    REQUIRE(parameters.size() == 5 + 2 * 5 + 2);  // convolutions, batch normalization, classifier
    for (std::size_t p = 0; p < parameters.size(); ++p) {
      for (Index i = 0; i < parameters[p].value.size(); ++i) {
        CAPTURE(p, i);
        // The step is so small that no input of a relu changes its sign; the loss, near 1, is rounded to 1e-16, which
        // makes 1e-10 of the difference.
        constexpr double step = 1e-6;
        double& value = parameters[p].value(i);
        const double before = value;
        value = before + step;
        const double above = softmax_cross_entropy(network.forward(images), labels, unused);
        value = before - step;
        const double below = softmax_cross_entropy(network.forward(images), labels, unused);
        value = before;
        CHECK(std::abs(parameters[p].gradient(i) - (above - below) / (2 * step)) < 2e-9);
      }
    }
  }
}

TEST_CASE("fused and not, the networks have the same losses to rounding", "[residual_network]") {
  const std::vector<double> fused = train_small<double>(Mode::fused, 20);
  CHECK(fused.back() < 0.5 * fused.front());
  const std::vector<double> fused_float = train_small<float>(Mode::fused, 20);
  for (const Mode mode : {Mode::unfused, Mode::in_place}) {
    CAPTURE(static_cast<int>(mode));
    // The last digit, 1e-16 or 6e-8, through seven layers and twenty steps, each of which may make it a few times as
    // large.
    CHECK(largest_difference(fused, train_small<double>(mode, 20)) < 1e-12);
    CHECK(largest_difference(fused_float, train_small<float>(mode, 20)) < 1e-3);
  }
}

TEST_CASE("fused and not, the networks infer the same to rounding", "[residual_network]") {
  Random random(4);
  const Tensor4<double> images = random_images<double>(3, 2, 5, 4, random);
  const auto infer = [&](Mode mode) {
    Network<double> network = small_network<double>(mode);
    network.forward(images);  // which moves the running statistics
    return network.infer(images);
  };
  const Batch<double> fused = infer(Mode::fused);
  CHECK(matrix(fused).cwiseAbs().maxCoeff() > 0.1);
  for (const Mode mode : {Mode::unfused, Mode::in_place}) {
    CHECK((matrix(infer(mode)) - matrix(fused)).cwiseAbs().maxCoeff() < 1e-12);
  }
}

TEST_CASE("fused, two tensors a layer are kept for backward, and three where relu keeps its input",
          "[residual_network]") {
  const auto kept = [](Mode mode) {
    Random random(5);
    Network<float> network({1, 4, 2, 3}, mode, random);
    network.forward(random_images<float>(3, 1, 6, 5, random));
    return network.bytes_kept();
  };
  constexpr std::size_t tensor = 3 * 4 * 6 * 5 * sizeof(float);
  constexpr std::size_t layers = 5;
  CHECK(kept(Mode::fused) == 2 * layers * tensor);
  CHECK(kept(Mode::unfused) == 3 * layers * tensor);
  CHECK(kept(Mode::in_place) == 2 * layers * tensor);
}

TEST_CASE("a step with momentum follows its formula", "[residual_network]") {
  double value = 1;
  double gradient = 2;
  MomentumSgd<double> optimizer({{&value, &gradient, 1}}, 0.5);
  optimizer.step(0.1);
  CHECK(std::abs(value - 0.8) < 1e-15);
  gradient = 1;
  optimizer.step(0.1);  // velocity 0.5 * 2 + 1
  CHECK(std::abs(value - 0.6) < 1e-15);
}

TEST_CASE("drawn digits are learned in every mode, from the same first loss", "[residual_network]") {
  Settings settings;
  settings.channels = 8;
  settings.blocks = 2;
  settings.batch_size = 32;
  settings.steps = 100;
  const std::vector<Mode> modes(std::begin(all_modes), std::end(all_modes));
  const std::vector<Result> results =
      train(why_batch_norm::draw_dataset(2000, 300, 1), settings, modes, [](int, double) {});
  REQUIRE(results.size() == 3);
  for (const Result& result : results) {
    CHECK(result.accuracy > 0.3);  // guessing gives 0.1
    REQUIRE(result.losses.size() == 100);
    CHECK(std::abs(result.losses.front() - results.front().losses.front()) < 1e-5);
    CHECK(result.step.size() == 100);
    CHECK(result.norm_forward.size() == 100);
    CHECK(result.norm_backward.size() == 100);
  }
}
