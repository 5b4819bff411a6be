// A network whose processes share each batch: linear maps, of which each process applies its own copy to its own
// samples, and batch normalization over the samples of all.

#ifndef TRAIN_DIGITS_MPI_NETWORK_HPP
#define TRAIN_DIGITS_MPI_NETWORK_HPP

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

#include <cmath>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "linear.hpp"
#include "parameter.hpp"
#include "random.hpp"

namespace train_digits_mpi {

using why_batch_norm::Batch;
using why_batch_norm::Index;
using why_batch_norm::Linear;
using why_batch_norm::Parameter;
using why_batch_norm::Random;

/// In double, so that what is more than rounding is seen.
using Scalar = double;
using Norm = batchnorm::SyncBatchNorm<Scalar, 2, batchnorm::MpiCommunicator>;

class Network {
 public:
  /// On every process, with the same widths and random state: the layers of batch normalization compare notes.
  Network(Index inputs, const std::vector<Index>& widths, Index outputs, const batchnorm::MpiCommunicator& processes,
          Random& random)
      : output_(linear(widths.empty() ? inputs : widths.back(), outputs, true, random)) {
    for (const Index width : widths) {
      const batchnorm::BatchNormOptions options(width);
      hidden_.push_back({linear(inputs, width, false, random),
                         Norm(options.activation(batchnorm::Activation::relu), processes),
                         {},
                         {}});
      inputs = width;
    }
  }

  /// Training, on every process with its own samples, which may be none. Returns their logits.
  Batch<Scalar> forward(const Batch<Scalar>& x) {
    const Batch<Scalar>* input = &x;
    for (Hidden& layer : hidden_) {
      layer.map.forward(*input, layer.mapped);
      layer.active = layer.norm.forward(layer.mapped);
      input = &layer.active;
    }
    Batch<Scalar> logits;
    output_.forward(*input, logits);
    return logits;
  }

  /// Sets the gradients of this process's samples, on every process.
  void backward(const Batch<Scalar>& x, Batch<Scalar> gradient) {
    const auto input_of = [&](std::size_t i) -> const Batch<Scalar>& { return i == 0 ? x : hidden_[i - 1].active; };
    output_.set_gradients(input_of(hidden_.size()), gradient);
    Batch<Scalar> next;
    output_.backward(gradient, next);
    for (std::size_t i = hidden_.size(); i-- > 0;) {
      Hidden& layer = hidden_[i];
      layer.norm.zero_grad();
      gradient = layer.norm.backward(layer.mapped, next);
      layer.map.set_gradients(input_of(i), gradient);
      layer.map.backward(gradient, next);
    }
  }

  /// Inference, by one process alone if it likes.
  Batch<Scalar> infer(Batch<Scalar> x) const {
    Batch<Scalar> mapped;
    for (const Hidden& layer : hidden_) {
      layer.map.forward(x, mapped);
      x = layer.norm.infer(mapped);
    }
    output_.forward(x, mapped);
    return mapped;
  }

  /// Views into this network.
  std::vector<Parameter<Scalar>> parameters() {
    std::vector<Parameter<Scalar>> all = output_.parameters();
    for (Hidden& layer : hidden_) {
      for (const auto& parameter : layer.map.parameters()) all.push_back(parameter);
      for (auto& parameter : layer.norm.parameters()) {
        all.emplace_back(parameter.value.data(), parameter.gradient.data(), parameter.value.size());
      }
    }
    return all;
  }

 private:
  struct Hidden {
    Linear<Scalar> map;
    Norm norm;
    Batch<Scalar> mapped, active;  // of the last forward
  };

  // He's initialization, for relu.
  static Linear<Scalar> linear(Index inputs, Index outputs, bool bias, Random& random) {
    return {inputs, outputs, bias, std::sqrt(2.0 / static_cast<double>(inputs)), random};
  }

  std::vector<Hidden> hidden_;
  Linear<Scalar> output_;
};

}  // namespace train_digits_mpi

#endif  // TRAIN_DIGITS_MPI_NETWORK_HPP
