// A multilayer perceptron: each hidden layer is a linear layer, batch normalization or none, an activation, and dropout
// or none.

#ifndef WHY_BATCH_NORM_NETWORK_HPP
#define WHY_BATCH_NORM_NETWORK_HPP

#include <batchnorm/batchnorm.hpp>
#include <cmath>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "activation.hpp"
#include "batch.hpp"
#include "dropout.hpp"
#include "linear.hpp"
#include "parameter.hpp"
#include "random.hpp"

namespace why_batch_norm {

struct NetworkShape {
  Index inputs = 1;
  std::vector<Index> hidden;  // the width of each hidden layer
  Index outputs = 1;
  Activation activation = Activation::relu;
  double dropout = 0;  // the probability that a hidden value is set to 0 in training

  bool batch_norm = true;
  double running_momentum = 0.1;  // the share of each batch in the running statistics
  bool gamma = true;              // whether batch normalization has a learnable scale
  bool beta = true;               // and a learnable shift
  bool allow_single_value = false;

  // The standard deviation of the initial weights is weight_deviation where that is above 0, and otherwise
  // weight_scale * sqrt(2 / inputs) of each layer (He et al. 2015, "Delving Deep into Rectifiers", equation 10).
  double weight_scale = 1;
  double weight_deviation = 0;
};

template <typename T>
class Network {
 public:
  // One hidden layer and the results of its last forward, which backward needs.
  struct Hidden {
    Linear<T> linear;
    std::optional<batchnorm::BatchNorm<T, 2>> norm;
    Batch<T> weighted;    // linear(input)
    Batch<T> normalized;  // norm(weighted); unused without norm
    Batch<T> active;      // activation of the one or the other, and dropout
    Batch<T> kept;        // dropout's mask; unused without dropout
    Batch<T> undropped;   // the activation before dropout; unused without dropout

    // What goes into the activation.
    const Batch<T>& activation_input() const { return norm ? normalized : weighted; }
  };

  // Draws the same weights from the same random state, with batch normalization and without.
  Network(const NetworkShape& shape, Random& random)
      : activation_(shape.activation),
        dropout_(shape.dropout),
        hidden_(make_hidden(shape, random)),
        output_(make_linear(shape, shape.hidden.empty() ? shape.inputs : shape.hidden.back(), shape.outputs, true,
                            random)) {}

  std::vector<Hidden>& hidden() { return hidden_; }
  const std::vector<Hidden>& hidden() const { return hidden_; }
  const Linear<T>& output() const { return output_; }

  // Training: normalizes by the statistics of this batch. Returns the logits, [samples, outputs], which stay valid
  // until the next forward. `random` draws what dropout drops.
  const Batch<T>& forward(const Batch<T>& x, Random& random) {
    const Batch<T>* input = &x;
    for (Hidden& layer : hidden_) {
      layer.linear.forward(*input, layer.weighted);
      if (layer.norm) {
        layer.normalized.resize(layer.weighted.dimensions());
        layer.norm->forward(layer.weighted, layer.normalized);
      }
      activation_forward(activation_, layer.activation_input(), layer.active);
      if (dropout_ > 0) {
        layer.undropped = layer.active;
        dropout_forward(dropout_, random, layer.active, layer.kept);
      }
      input = &layer.active;
    }
    output_.forward(*input, logits_);
    return logits_;
  }

  // Sets the gradients of all parameters, given the x of the last forward and the gradient of the loss by its logits.
  void backward(const Batch<T>& x, const Batch<T>& dlogits) {
    output_.set_gradients(hidden_.empty() ? x : hidden_.back().active, dlogits);
    if (hidden_.empty()) return;
    output_.backward(dlogits, gradient_);
    for (std::size_t i = hidden_.size(); i-- > 0;) {
      Hidden& layer = hidden_[i];
      if (dropout_ > 0) dropout_backward(layer.kept, gradient_);
      activation_backward(activation_, dropout_ > 0 ? layer.undropped : layer.active, gradient_);
      if (layer.norm) {
        layer.norm->zero_grad();
        layer.norm->backward(layer.weighted, gradient_, gradient_);
      }
      layer.linear.set_gradients(i == 0 ? x : hidden_[i - 1].active, gradient_);
      if (i == 0) return;  // nobody asks for the gradient by x
      layer.linear.backward(gradient_, next_gradient_);
      std::swap(gradient_, next_gradient_);
    }
  }

  // Inference: normalizes by the running statistics and drops nothing. Returns the logits.
  Batch<T> infer(const Batch<T>& x) const {
    const Batch<T>* input = &x;
    Batch<T> active;
    Batch<T> weighted;
    for (const Hidden& layer : hidden_) {
      layer.linear.forward(*input, weighted);
      if (layer.norm) layer.norm->infer(weighted, weighted);
      activation_forward(activation_, weighted, active);
      input = &active;
    }
    output_.forward(*input, weighted);
    return weighted;
  }

  // Views into this network: they end with it and do not survive a move.
  std::vector<Parameter<T>> parameters() {
    std::vector<Parameter<T>> all;
    for (Hidden& layer : hidden_) {
      for (const Parameter<T>& parameter : layer.linear.parameters()) all.push_back(parameter);
      if (!layer.norm) continue;
      batchnorm::BatchNorm<T, 2>& norm = *layer.norm;  // without scale or shift its vector has size 0
      if (norm.options().scale()) {
        all.emplace_back(norm.weight().data(), norm.weight_grad().data(), norm.weight().size());
      }
      if (norm.options().shift()) all.emplace_back(norm.bias().data(), norm.bias_grad().data(), norm.bias().size());
    }
    for (const Parameter<T>& parameter : output_.parameters()) all.push_back(parameter);
    return all;
  }

 private:
  static Linear<T> make_linear(const NetworkShape& shape, Index inputs, Index outputs, bool bias, Random& random) {
    const double he = std::sqrt(2.0 / static_cast<double>(inputs));
    return {inputs, outputs, bias, shape.weight_deviation > 0 ? shape.weight_deviation : shape.weight_scale * he,
            random};
  }

  static std::vector<Hidden> make_hidden(const NetworkShape& shape, Random& random) {
    std::vector<Hidden> layers;
    Index inputs = shape.inputs;
    for (const Index outputs : shape.hidden) {
      layers.push_back(
          {make_linear(shape, inputs, outputs, !shape.batch_norm, random), std::nullopt, {}, {}, {}, {}, {}});
      if (shape.batch_norm) {
        layers.back().norm.emplace(batchnorm::BatchNormOptions(outputs)
                                       .momentum(shape.running_momentum)
                                       .scale(shape.gamma)
                                       .shift(shape.beta)
                                       .single_value(shape.allow_single_value ? batchnorm::SingleValue::allow
                                                                              : batchnorm::SingleValue::error));
      }
      inputs = outputs;
    }
    return layers;
  }

  Activation activation_;
  double dropout_;
  std::vector<Hidden> hidden_;
  Linear<T> output_;
  Batch<T> logits_;
  Batch<T> gradient_;
  Batch<T> next_gradient_;
};

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_NETWORK_HPP
