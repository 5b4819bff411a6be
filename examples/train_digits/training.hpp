// One training run: a network, its optimizer, and what came of it.

#ifndef TRAIN_DIGITS_TRAINING_HPP
#define TRAIN_DIGITS_TRAINING_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include "dataset.hpp"
#include "network.hpp"
#include "random.hpp"
#include "sgd.hpp"
#include "softmax_cross_entropy.hpp"

namespace train_digits {

// What every run shares.
struct TrainingOptions {
  std::vector<Index> hidden = {128, 128, 128};
  std::size_t batch_size = 64;
  int epochs = 20;
  float momentum = 0.9F;
  std::uint64_t seed = 1;
};

// What tells the runs apart.
struct RunSettings {
  double learning_rate;
  double weight_scale;
  bool batch_norm;
};

struct EpochResult {
  double loss;           // mean over the epoch's batches, as they were trained on
  double test_accuracy;  // after the epoch, 0 to 1
};

struct RunResult {
  std::vector<EpochResult> epochs;
  bool diverged = false;  // the loss was no longer a finite number, and training stopped there

  double final_accuracy() const { return epochs.empty() ? 0.0 : epochs.back().test_accuracy; }

  // The first epoch, from 1, whose test accuracy was at least this.
  std::optional<int> epochs_to(double accuracy) const {
    for (std::size_t i = 0; i < epochs.size(); ++i) {
      if (epochs[i].test_accuracy >= accuracy) return static_cast<int>(i) + 1;
    }
    return std::nullopt;
  }
};

// The share of the examples whose largest logit is at their label, 0 to 1.
inline double accuracy(const Network<float>& network, const Examples& examples) {
  const Batch<float> logits = network.infer(examples.images);
  std::size_t correct = 0;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const float* row = logits.data() + static_cast<Index>(i) * logits.dimension(1);
    if (std::max_element(row, row + logits.dimension(1)) - row == examples.labels[i]) ++correct;
  }
  return static_cast<double>(correct) / static_cast<double>(examples.size());
}

// Half a cosine wave from 1 at step 0 to 0 after the last step.
inline double cosine_decay(std::size_t step, std::size_t steps) {
  constexpr double pi = 3.141592653589793;
  return 0.5 * (1.0 + std::cos(pi * static_cast<double>(step) / static_cast<double>(steps)));
}

// Trains a network and calls on_epoch(const EpochResult&) after every epoch. The same arguments give the same result;
// with and without batch normalization the initial weights and the order of the examples are the same.
template <typename OnEpoch>
RunResult train(const Dataset& data, const TrainingOptions& options, const RunSettings& settings, OnEpoch on_epoch) {
  Random random(options.seed);
  const NetworkShape shape{data.height * data.width, options.hidden, digit_count};
  Network<float> network(shape, settings.batch_norm, settings.weight_scale, random);
  Sgd<float> optimizer(network.parameters(), options.momentum);

  std::vector<std::size_t> order(data.train.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const std::size_t batch_size = std::min(options.batch_size, order.size());
  const std::size_t batches = order.size() / batch_size;  // a smaller rest waits for the next epoch's order
  const std::size_t steps = batches * static_cast<std::size_t>(options.epochs);

  RunResult result;
  Examples batch;
  Batch<float> dlogits;
  std::size_t step = 0;
  for (int epoch = 0; epoch < options.epochs && !result.diverged; ++epoch) {
    random.shuffle(order);
    double loss = 0;
    for (std::size_t i = 0; i < batches && !result.diverged; ++i, ++step) {
      gather(data.train, order, i * batch_size, (i + 1) * batch_size, batch);
      const Batch<float>& logits = network.forward(batch.images);
      loss += softmax_cross_entropy(logits, batch.labels, dlogits) / static_cast<double>(batches);
      result.diverged = !std::isfinite(loss);
      network.zero_grad();
      network.backward(batch.images, dlogits);
      optimizer.step(static_cast<float>(settings.learning_rate * cosine_decay(step, steps)));
    }
    result.epochs.push_back({loss, accuracy(network, data.test)});
    on_epoch(result.epochs.back());
  }
  return result;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_TRAINING_HPP
