// What is measured of a network. Nothing here changes the network that it is given.

#ifndef WHY_BATCH_NORM_MEASURE_HPP
#define WHY_BATCH_NORM_MEASURE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "dataset.hpp"
#include "network.hpp"
#include "predictions.hpp"
#include "random.hpp"
#include "softmax_cross_entropy.hpp"

namespace why_batch_norm {

// The share of the examples that inference puts into their class, 0 to 1.
inline double accuracy(const Network<float>& network, const Examples& examples) {
  return static_cast<double>(count_equal(predictions(network.infer(examples.images)), examples.labels)) /
         static_cast<double>(examples.size());
}

// The same in training mode, as in a program that forgot eval(): every batch is normalized by its own statistics. The
// examples are taken in this order; those that fill no batch are left out.
inline double accuracy_by_batch_statistics(const Network<float>& network, const Examples& examples,
                                           const std::vector<std::size_t>& order, std::size_t batch_size) {
  Network<float> copy = network;  // a forward in training mode changes the running statistics
  Random unused(0);               // there is no dropout
  Examples batch;
  const std::size_t batches = order.size() / batch_size;
  std::size_t correct = 0;
  for (std::size_t i = 0; i < batches; ++i) {
    gather(examples, order, i * batch_size, (i + 1) * batch_size, batch);
    correct += count_equal(predictions(copy.forward(batch.images, unused)), batch.labels);
  }
  return static_cast<double>(correct) / static_cast<double>(batches * batch_size);
}

// The 15th, 50th and 85th percentile, over these images, of the input of each unit of the last hidden layer's
// activation: three lists, each with a number per unit. Batch normalization uses the statistics of these images.
inline nlohmann::json input_percentiles(const Network<float>& network, const Batch<float>& images, Random random) {
  Network<float> copy = network;
  copy.forward(images, random);
  const Batch<float>& input = copy.hidden().back().activation_input();
  const auto samples = static_cast<std::size_t>(input.dimension(0));
  nlohmann::json result =
      nlohmann::json::array({nlohmann::json::array(), nlohmann::json::array(), nlohmann::json::array()});
  std::vector<float> values(samples);
  for (Index unit = 0; unit < input.dimension(1); ++unit) {
    for (std::size_t i = 0; i < samples; ++i) values[i] = input(static_cast<Index>(i), unit);
    std::sort(values.begin(), values.end());
    std::size_t list = 0;
    for (const double share : {0.15, 0.50, 0.85}) {
      const float value = values[static_cast<std::size_t>(share * static_cast<double>(samples - 1) + 0.5)];
      result[list++].push_back(std::round(1e4 * static_cast<double>(value)) / 1e4);
    }
  }
  return result;
}

// The norm of the gradient of the loss over these examples by each layer's weights, from the first hidden layer to the
// output.
inline nlohmann::json gradient_norms(const Network<float>& network, const Examples& examples, Random random) {
  Network<float> copy = network;
  Batch<float> dlogits;
  softmax_cross_entropy(copy.forward(examples.images, random), examples.labels, dlogits);
  copy.backward(examples.images, dlogits);
  nlohmann::json norms = nlohmann::json::array();
  const auto norm = [](const Linear<float>& layer) {
    return std::sqrt(layer.weight_grad().template cast<double>().squaredNorm());
  };
  for (const auto& layer : copy.hidden()) norms.push_back(norm(layer.linear));
  norms.push_back(norm(copy.output()));
  return norms;
}

// gamma and beta of all units, layer by layer (empty lists for one that is not learned), and how far from the identity
// batch normalization is where gamma is set to sqrt(running variance + epsilon) and beta to the running mean, which
// undoes the normalization (Ioffe and Szegedy 2015, section 3): the largest |y - x| over the largest |x| of all layers.
inline nlohmann::json learned_parameters(const Network<float>& network, const Batch<float>& images) {
  nlohmann::json gammas = nlohmann::json::array();
  nlohmann::json betas = nlohmann::json::array();
  double identity_error = 0;
  Network<float> copy = network;
  Random unused(0);
  copy.forward(images, unused);  // leaves what goes into each layer in `weighted`
  for (std::size_t i = 0; i < network.hidden().size(); ++i) {
    const batchnorm::BatchNorm<float, 2>& norm = *network.hidden()[i].norm;
    const auto list = [](const auto& vector) {
      return std::vector<float>(vector.data(), vector.data() + vector.size());
    };
    gammas.push_back(list(norm.weight()));
    betas.push_back(list(norm.bias()));

    const Index channels = norm.running_mean().size();
    batchnorm::BatchNorm<float, 2> identity(batchnorm::BatchNormOptions(channels).epsilon(norm.options().epsilon()));
    identity.set_running_stats(norm.running_stats());
    std::vector<float> deviation(static_cast<std::size_t>(channels));
    for (Index c = 0; c < channels; ++c) {
      deviation[static_cast<std::size_t>(c)] =
          static_cast<float>(std::sqrt(static_cast<double>(norm.running_var()(c)) + norm.options().epsilon()));
    }
    identity.set_weight(deviation).set_bias(norm.running_mean());
    const Batch<float>& x = copy.hidden()[i].weighted;
    const Batch<float> y = identity.infer(x);
    const double error = static_cast<double>((matrix(y) - matrix(x)).cwiseAbs().maxCoeff());
    identity_error = std::max(identity_error, error / static_cast<double>(matrix(x).cwiseAbs().maxCoeff()));
  }
  return {{"gamma", gammas}, {"beta", betas}, {"identity_error", identity_error}};
}

// The trained network in inference, in batches of 1 and of 256, and in training mode in batches of every size.
inline nlohmann::json compare_inference(const Network<float>& network, const Examples& examples, std::uint64_t seed) {
  nlohmann::json result;
  const Index count = std::min<Index>(256, static_cast<Index>(examples.size()));
  const Examples some = range_of(examples, 0, static_cast<std::size_t>(count));

  // One by one: what goes into each batch normalization layer is the same memory, so that only its own batch differs.
  // The products of the linear layers may be summed in another order for another batch, hence the predictions apart.
  Network<float> copy = network;
  Random unused(0);
  copy.forward(some.images, unused);
  bool same_bits = true;
  for (std::size_t i = 0; i < network.hidden().size(); ++i) {
    const Batch<float>& x = copy.hidden()[i].weighted;
    const Batch<float> together = network.hidden()[i].norm->infer(x);
    const auto bytes = static_cast<std::size_t>(x.dimension(1)) * sizeof(float);
    Batch<float> one(1, x.dimension(1));
    for (Index sample = 0; sample < count; ++sample) {
      std::memcpy(one.data(), x.data() + sample * x.dimension(1), bytes);
      const Batch<float> alone = network.hidden()[i].norm->infer(one);
      same_bits = same_bits && std::memcmp(alone.data(), together.data() + sample * x.dimension(1), bytes) == 0;
    }
  }
  result["batch_of_1_has_the_same_bits"] = same_bits;
  const std::vector<int> together = predictions(network.infer(some.images));
  std::size_t same = 0;
  for (std::size_t i = 0; i < some.size(); ++i) {
    same += predictions(network.infer(range_of(some, i, i + 1).images)).front() == together[i] ? 1U : 0U;
  }
  result["same_predictions"] = same;
  result["of_predictions"] = some.size();

  // Without the option single_value the library refuses a batch of one in training mode.
  bool refused = false;
  try {
    batchnorm::BatchNorm<float, 2> by_default(some.images.dimension(1));
    by_default.forward(range_of(some, 0, 1).images);
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  result["batch_of_1_is_refused_in_training_mode"] = refused;

  result["accuracy"] = accuracy(network, examples);
  std::vector<std::size_t> shuffled(examples.size());
  std::iota(shuffled.begin(), shuffled.end(), std::size_t{0});
  Random random(seed);
  random.shuffle(shuffled);
  std::vector<std::size_t> sorted = shuffled;
  std::stable_sort(sorted.begin(), sorted.end(),
                   [&](std::size_t a, std::size_t b) { return examples.labels[a] < examples.labels[b]; });
  for (const std::size_t size : {1U, 2U, 4U, 8U, 16U, 32U, 64U, 128U, 256U}) {
    if (size > examples.size()) break;
    result["training_mode"].push_back({{"batch_size", size},
                                       {"shuffled", accuracy_by_batch_statistics(network, examples, shuffled, size)},
                                       {"sorted", accuracy_by_batch_statistics(network, examples, sorted, size)}});
  }
  return result;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_MEASURE_HPP
