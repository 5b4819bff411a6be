// A multilayer perceptron, with or without batch normalization between each hidden linear layer and its ReLU.

#ifndef TRAIN_DIGITS_NETWORK_HPP
#define TRAIN_DIGITS_NETWORK_HPP

#include <batchnorm/batchnorm.hpp>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "linear.hpp"
#include "parameter.hpp"
#include "random.hpp"
#include "relu.hpp"

namespace train_digits {

struct NetworkShape {
  Index inputs;
  std::vector<Index> hidden;  // the width of each hidden layer
  Index outputs;
};

template <typename T>
class Network {
 public:
  // Draws the same weights from the same random state, whether batch_norm is on or off.
  Network(const NetworkShape& shape, bool batch_norm, double weight_scale, Random& random)
      : hidden_(make_hidden(shape, batch_norm, weight_scale, random)),
        output_(shape.hidden.empty() ? shape.inputs : shape.hidden.back(), shape.outputs, weight_scale, random) {}

  // Training: normalizes by the statistics of this batch. Returns the logits, [samples, outputs], which stay valid
  // until the next forward.
  const Batch<T>& forward(const Batch<T>& x) {
    const Batch<T>* input = &x;
    for (Hidden& layer : hidden_) {
      layer.linear.forward(*input, layer.weighted);
      if (layer.norm) {
        layer.normalized.resize(layer.weighted.dimensions());
        layer.norm->forward(layer.weighted, layer.normalized);
      }
      relu_forward(layer.norm ? layer.normalized : layer.weighted, layer.active);
      input = &layer.active;
    }
    output_.forward(*input, logits_);
    return logits_;
  }

  // Adds to the gradients of all parameters, given the x of the last forward and the gradient of the loss by its
  // logits.
  void backward(const Batch<T>& x, const Batch<T>& dlogits) {
    output_.accumulate_gradients(hidden_.empty() ? x : hidden_.back().active, dlogits);
    if (hidden_.empty()) return;
    output_.backward(dlogits, gradient_);
    for (std::size_t i = hidden_.size(); i-- > 0;) {
      Hidden& layer = hidden_[i];
      relu_backward(layer.active, gradient_);
      if (layer.norm) layer.norm->backward(layer.weighted, gradient_, gradient_);
      layer.linear.accumulate_gradients(i == 0 ? x : hidden_[i - 1].active, gradient_);
      if (i == 0) return;  // nobody asks for the gradient by x
      layer.linear.backward(gradient_, next_gradient_);
      std::swap(gradient_, next_gradient_);
    }
  }

  // Inference: normalizes by the running statistics. Returns the logits.
  Batch<T> infer(const Batch<T>& x) const {
    Batch<T> active = x;
    Batch<T> weighted;
    for (const Hidden& layer : hidden_) {
      layer.linear.forward(active, weighted);
      if (layer.norm) layer.norm->infer(weighted, weighted);
      relu_forward(weighted, active);
    }
    output_.forward(active, weighted);
    return weighted;
  }

  void zero_grad() {
    for (Hidden& layer : hidden_) {
      layer.linear.zero_grad();
      if (layer.norm) layer.norm->zero_grad();
    }
    output_.zero_grad();
  }

  // Views into this network: they end with it and do not survive a move.
  std::vector<Parameter<T>> parameters() {
    std::vector<Parameter<T>> all;
    for (Hidden& layer : hidden_) {
      for (const Parameter<T>& parameter : layer.linear.parameters()) all.push_back(parameter);
      if (!layer.norm) continue;
      batchnorm::BatchNorm<T, 2>& norm = *layer.norm;
      all.emplace_back(norm.weight().data(), norm.weight_grad().data(), norm.weight().size());
      all.emplace_back(norm.bias().data(), norm.bias_grad().data(), norm.bias().size());
    }
    for (const Parameter<T>& parameter : output_.parameters()) all.push_back(parameter);
    return all;
  }

 private:
  // One hidden layer and the results of its last forward, which backward needs.
  struct Hidden {
    Linear<T> linear;
    std::optional<batchnorm::BatchNorm<T, 2>> norm;
    Batch<T> weighted;    // linear(input)
    Batch<T> normalized;  // norm(weighted); unused without norm
    Batch<T> active;      // relu of the one or the other
  };

  static std::vector<Hidden> make_hidden(const NetworkShape& shape, bool batch_norm, double weight_scale,
                                         Random& random) {
    std::vector<Hidden> layers;
    Index inputs = shape.inputs;
    for (const Index outputs : shape.hidden) {
      layers.push_back({Linear<T>(inputs, outputs, weight_scale, random), std::nullopt, {}, {}, {}});
      if (batch_norm) layers.back().norm.emplace(outputs);
      inputs = outputs;
    }
    return layers;
  }

  std::vector<Hidden> hidden_;
  Linear<T> output_;
  Batch<T> logits_;
  Batch<T> gradient_;
  Batch<T> next_gradient_;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_NETWORK_HPP
