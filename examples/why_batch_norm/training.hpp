// One training run: a network, what it learns from, and what came of it.

#ifndef WHY_BATCH_NORM_TRAINING_HPP
#define WHY_BATCH_NORM_TRAINING_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "bad_input.hpp"
#include "dataset.hpp"
#include "measure.hpp"
#include "network.hpp"
#include "random.hpp"
#include "settings.hpp"
#include "sgd.hpp"
#include "softmax_cross_entropy.hpp"

namespace why_batch_norm {

// Trains a network by plain stochastic gradient descent and gives what was measured:
//
//     {"diverged": false, "curve": [{"step", "loss", "validation", "test", "training"}...], "percentiles": [...],
//      "gradient_norms": [...], "parameters": {...}, "inference": {...}}
//
// each where the settings ask for it. "loss" is the mean over the batches since the last entry; a run whose loss is no
// longer finite stops, and its last entry has the accuracies it stopped with. Calls on_step(step) after every step. The
// same arguments give the same result, and with and without batch normalization the initial weights and the order of
// the images are the same.
template <typename OnStep>
nlohmann::json train(const Dataset& data, const Settings& settings, OnStep on_step) {
  NetworkShape shape;
  shape.inputs = data.height * data.width;
  shape.hidden = settings.hidden;
  shape.outputs = data.classes;
  shape.activation = settings.activation == "sigmoid" ? Activation::sigmoid : Activation::relu;
  shape.dropout = settings.dropout;
  shape.batch_norm = settings.batch_norm;
  shape.running_momentum = settings.running_momentum;
  shape.gamma = settings.gamma;
  shape.beta = settings.beta;
  shape.allow_single_value = settings.inference;
  shape.weight_scale = settings.weight_scale;
  shape.weight_deviation = settings.weight_deviation;

  // Streams of their own, so that dropout changes neither the weights nor the order of the images.
  Random weights(3 * settings.seed);
  Random shuffling(3 * settings.seed + 1);
  Random dropping(3 * settings.seed + 2);
  Network<float> network(shape, weights);
  std::vector<Parameter<float>> parameters = network.parameters();

  const std::size_t available = data.train.size();
  const std::size_t images =
      settings.train_images == 0 ? available : std::min(available, static_cast<std::size_t>(settings.train_images));
  const auto batch_size = static_cast<std::size_t>(settings.batch_size);
  if (batch_size > images) {
    throw BadInput("settings: expected a batch_size of at most " + std::to_string(images) +
                   ", as many as there are training images, got " + std::to_string(batch_size));
  }
  std::vector<std::size_t> order(images);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::size_t position = images;  // where the next batch begins; a rest that fills no batch waits for the next order

  constexpr std::size_t looked_at = 1000;  // images whose percentiles and gradients are measured
  const Examples training_sample =
      settings.training_accuracy ? range_of(data.train, 0, std::min<std::size_t>(images, 5000)) : Examples();
  const Examples gradient_sample = settings.gradient_norms_at.empty() ? Examples() : range_of(data.train, 0, looked_at);
  const Examples percentile_sample =
      settings.percentiles_at.empty() ? Examples() : range_of(data.validation, 0, looked_at);

  nlohmann::json result = {{"diverged", false}, {"curve", nlohmann::json::array()}};
  double loss_sum = 0;
  Index loss_count = 0;
  const auto is_in = [](const std::vector<Index>& steps, Index step) {
    return std::find(steps.begin(), steps.end(), step) != steps.end();
  };
  const auto measure = [&](Index step, bool last) {
    if (last || is_in(settings.evaluate_at, step)) {
      nlohmann::json entry = {
          {"step", step},
          {"loss", loss_count > 0 ? nlohmann::json(loss_sum / static_cast<double>(loss_count)) : nlohmann::json()},
          {"validation", accuracy(network, data.validation)},
          {"test", accuracy(network, data.test)}};
      if (settings.training_accuracy) entry["training"] = accuracy(network, training_sample);
      result["curve"].push_back(std::move(entry));
      loss_sum = 0;
      loss_count = 0;
    }
    if (is_in(settings.percentiles_at, step)) {
      result["percentiles"].push_back(
          {{"step", step}, {"values", input_percentiles(network, percentile_sample.images, dropping)}});
    }
    if (is_in(settings.gradient_norms_at, step)) {
      result["gradient_norms"].push_back(
          {{"step", step}, {"norms", gradient_norms(network, gradient_sample, dropping)}});
    }
  };

  measure(0, settings.steps == 0);
  Examples batch;
  Batch<float> dlogits;
  for (Index step = 1; step <= settings.steps; ++step) {
    if (position + batch_size > images) {
      shuffling.shuffle(order);
      position = 0;
    }
    gather(data.train, order, position, position + batch_size, batch);
    position += batch_size;

    const double loss =
        static_cast<double>(softmax_cross_entropy(network.forward(batch.images, dropping), batch.labels, dlogits));
    loss_sum += loss;
    ++loss_count;
    const bool diverged = !std::isfinite(loss);
    if (!diverged) {
      network.backward(batch.images, dlogits);
      sgd_step(parameters, static_cast<float>(settings.learning_rate));
    }
    measure(step, diverged || step == settings.steps);
    on_step(step);
    if (diverged) {
      result["diverged"] = true;
      break;
    }
  }
  if (settings.parameters && settings.batch_norm) {
    result["parameters"] = learned_parameters(network, range_of(data.test, 0, looked_at).images);
  }
  if (settings.inference && settings.batch_norm) {
    result["inference"] = compare_inference(network, data.test, settings.seed);
  }
  return result;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_TRAINING_HPP
