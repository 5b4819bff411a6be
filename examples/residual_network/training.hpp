// Trains networks that differ in nothing but the mode, step by step beside each other, and measures them.

#ifndef RESIDUAL_NETWORK_TRAINING_HPP
#define RESIDUAL_NETWORK_TRAINING_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "../why_batch_norm/bad_input.hpp"
#include "../why_batch_norm/dataset.hpp"
#include "../why_batch_norm/predictions.hpp"
#include "../why_batch_norm/random.hpp"
#include "../why_batch_norm/softmax_cross_entropy.hpp"
#include "momentum_sgd.hpp"
#include "network.hpp"
#include "norm_add_relu.hpp"
#include "tensor.hpp"

namespace residual_network {

struct Settings {
  Index channels = 16;
  Index blocks = 3;
  std::size_t batch_size = 64;
  int steps = 150;
  double learning_rate = 0.2;  // of the first step; it falls to 0 in a straight line
  double momentum = 0.9;
  std::uint64_t seed = 1;  // of the weights and of the order of the images
};

// What was measured of one network. Times are in milliseconds, one a step.
struct Result {
  std::vector<double> losses;
  std::vector<double> step;           // forward, loss, backward and the optimizer
  std::vector<double> norm_forward;   // batch normalization, addition and relu, of all layers
  std::vector<double> norm_backward;  // the same
  std::size_t bytes_kept = 0;         // by these layers for backward, after the forward of one batch
  double accuracy = 0;                // on the test images, 0 to 1
};

inline double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<std::ptrdiff_t>(numbers.size() / 2);
  std::nth_element(numbers.begin(), middle, numbers.end());
  return *middle;
}

// A network, its optimizer, and what was measured of it so far. It stays where it is, since the optimizer has views
// into the network.
class Run {
 public:
  Run(const NetworkShape& shape, const Settings& settings, Mode mode)
      : network_(make_network(shape, settings, mode)), optimizer_(network_.parameters(), settings.momentum) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  void step(const Tensor4<float>& images, const std::vector<int>& labels, double learning_rate) {
    Stopwatch whole;
    whole.time([&] {
      const float loss = why_batch_norm::softmax_cross_entropy(network_.forward(images), labels, dlogits_);
      network_.backward(images, dlogits_);
      optimizer_.step(learning_rate);
      result_.losses.push_back(static_cast<double>(loss));
    });
    double forward = 0;
    double backward = 0;
    for (NormAddRelu<float>* norm : network_.norms()) {
      forward += norm->forward_time().take();
      backward += norm->backward_time().take();
    }
    result_.step.push_back(whole.take());
    result_.norm_forward.push_back(forward);
    result_.norm_backward.push_back(backward);
    result_.bytes_kept = network_.bytes_kept();
  }

  void test(const why_batch_norm::Examples& examples, Index height, Index width) {
    constexpr std::size_t at_once = 250;
    std::size_t correct = 0;
    for (std::size_t begin = 0; begin < examples.size(); begin += at_once) {
      const why_batch_norm::Examples some = why_batch_norm::range_of(examples, begin, begin + at_once);
      const Batch<float> logits = network_.infer(as_images(some.images, height, width));
      correct += why_batch_norm::count_equal(why_batch_norm::predictions(logits), some.labels);
    }
    result_.accuracy = static_cast<double>(correct) / static_cast<double>(examples.size());
  }

  const Result& result() const { return result_; }

 private:
  static Network<float> make_network(const NetworkShape& shape, const Settings& settings, Mode mode) {
    why_batch_norm::Random random(2 * settings.seed);
    return {shape, mode, random};
  }

  Network<float> network_;
  MomentumSgd<float> optimizer_;
  Batch<float> dlogits_;
  Result result_;
};

// Trains a network in each of these modes, from the same weights on the same batches. In each step all of them take
// theirs, in turns first, so that whatever else the machine does meets them all. Calls on_step(step, loss of the first
// network) after every step. Gives the results in the order of the modes.
template <typename OnStep>
std::vector<Result> train(const why_batch_norm::Dataset& data, const Settings& settings, const std::vector<Mode>& modes,
                          OnStep on_step) {
  if (settings.batch_size > data.train.size()) {
    throw why_batch_norm::BadInput("expected batches of at most " + std::to_string(data.train.size()) +
                                   " images, as many as there are to train on, got " +
                                   std::to_string(settings.batch_size));
  }
  std::vector<std::unique_ptr<Run>> runs;
  for (const Mode mode : modes) {
    runs.push_back(
        std::make_unique<Run>(NetworkShape{1, settings.channels, settings.blocks, data.classes}, settings, mode));
  }

  why_batch_norm::Random shuffling(2 * settings.seed + 1);
  std::vector<std::size_t> order(data.train.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::size_t position = order.size();  // where the next batch begins; a rest that fills no batch is left out
  why_batch_norm::Examples batch;
  for (int step = 1; step <= settings.steps; ++step) {
    if (position + settings.batch_size > order.size()) {
      shuffling.shuffle(order);
      position = 0;
    }
    why_batch_norm::gather(data.train, order, position, position + settings.batch_size, batch);
    position += settings.batch_size;

    const Tensor4<float> images = as_images(batch.images, data.height, data.width);
    const double learning_rate = settings.learning_rate * (settings.steps - step + 1) / settings.steps;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      runs[(i + static_cast<std::size_t>(step)) % runs.size()]->step(images, batch.labels, learning_rate);
    }
    on_step(step, runs.front()->result().losses.back());
  }

  std::vector<Result> results;
  for (const std::unique_ptr<Run>& run : runs) {
    run->test(data.test, data.height, data.width);
    results.push_back(run->result());
  }
  return results;
}

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_TRAINING_HPP
