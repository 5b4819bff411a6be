// A small residual network (He et al. 2016, "Deep Residual Learning for Image Recognition"): a convolution with batch
// normalization and relu, the stem; blocks that add what two further convolutions make of their input to it; the mean
// over all pixels of each channel; and a linear classifier.

#ifndef RESIDUAL_NETWORK_NETWORK_HPP
#define RESIDUAL_NETWORK_NETWORK_HPP

#include <cmath>
#include <cstddef>
#include <vector>

#include "../why_batch_norm/linear.hpp"
#include "../why_batch_norm/parameter.hpp"
#include "../why_batch_norm/random.hpp"
#include "convolution.hpp"
#include "norm_add_relu.hpp"
#include "tensor.hpp"

namespace residual_network {

struct NetworkShape {
  Index inputs = 1;     // channels of an image
  Index channels = 16;  // of every convolution's result
  Index blocks = 3;
  Index classes = 10;
};

// relu(bn(convolution(relu(bn(convolution(x))))) + x)
template <typename T>
class Block {
 public:
  Block(Index channels, Mode mode, why_batch_norm::Random& random)
      : convolutions_{{channels, channels, random}, {channels, channels, random}},
        norms_{{channels, mode}, {channels, mode}} {}

  const Tensor4<T>& forward(const Tensor4<T>& x) {
    convolutions_[0].forward(x, norms_[0].input());
    norms_[0].forward();
    convolutions_[1].forward(norms_[0].output(), norms_[1].input());
    norms_[1].forward(x);
    return norms_[1].output();
  }

  // In place: dy becomes the gradient of the loss by the x of forward. Sets the gradients of the parameters.
  void backward(const Tensor4<T>& x, Tensor4<T>& dy, Tensor4<T>& scratch, Tensor4<T>& more_scratch) {
    norms_[1].backward(dy, scratch);
    convolutions_[1].set_gradients(norms_[0].output(), scratch);
    convolutions_[1].backward(scratch, more_scratch);
    norms_[0].backward(more_scratch);
    convolutions_[0].set_gradients(x, more_scratch);
    convolutions_[0].backward(more_scratch, scratch);
    values(dy) += values(scratch);  // x went two ways
  }

  Tensor4<T> infer(const Tensor4<T>& x) const {
    Tensor4<T> y = convolutions_[0].infer(x);
    norms_[0].infer(y);
    y = convolutions_[1].infer(y);
    norms_[1].infer(y, x);
    return y;
  }

  std::vector<Convolution<T>>& convolutions() { return convolutions_; }
  std::vector<NormAddRelu<T>>& norms() { return norms_; }

 private:
  std::vector<Convolution<T>> convolutions_;
  std::vector<NormAddRelu<T>> norms_;
};

template <typename T>
class Network {
 public:
  // Draws the same weights from the same random state in every mode.
  Network(const NetworkShape& shape, Mode mode, why_batch_norm::Random& random)
      : stem_(shape.inputs, shape.channels, random),
        stem_norm_(shape.channels, mode),
        blocks_(make_blocks(shape, mode, random)),
        classifier_(shape.channels, shape.classes, true, std::sqrt(1.0 / static_cast<double>(shape.channels)), random) {
  }

  // Training: normalizes by the statistics of these images. Returns the logits, [samples, classes], which stay valid
  // until the next forward.
  const Batch<T>& forward(const Tensor4<T>& images) {
    stem_.forward(images, stem_norm_.input());
    stem_norm_.forward();
    const Tensor4<T>* features = &stem_norm_.output();
    for (Block<T>& block : blocks_) features = &block.forward(*features);
    pool(*features, pooled_);
    classifier_.forward(pooled_, logits_);
    return logits_;
  }

  // Sets the gradients of all parameters, given the images of the last forward and the gradient of the loss by its
  // logits.
  void backward(const Tensor4<T>& images, const Batch<T>& dlogits) {
    classifier_.set_gradients(pooled_, dlogits);
    classifier_.backward(dlogits, pooled_grad_);
    gradient_.resize(stem_norm_.output().dimensions());
    pool_backward(pooled_grad_, gradient_);
    for (std::size_t i = blocks_.size(); i-- > 0;) {
      const Tensor4<T>& x = i == 0 ? stem_norm_.output() : blocks_[i - 1].norms().back().output();
      blocks_[i].backward(x, gradient_, scratch_, more_scratch_);
    }
    stem_norm_.backward(gradient_);
    stem_.set_gradients(images, gradient_);
  }

  // Inference: normalizes by the running statistics. Returns the logits.
  Batch<T> infer(const Tensor4<T>& images) const {
    Tensor4<T> features = stem_.infer(images);
    stem_norm_.infer(features);
    for (const Block<T>& block : blocks_) features = block.infer(features);
    Batch<T> pooled;
    Batch<T> logits;
    pool(features, pooled);
    classifier_.forward(pooled, logits);
    return logits;
  }

  // Every batch normalization with its addition and relu, from the stem on.
  std::vector<NormAddRelu<T>*> norms() {
    std::vector<NormAddRelu<T>*> all{&stem_norm_};
    for (Block<T>& block : blocks_) {
      for (NormAddRelu<T>& norm : block.norms()) all.push_back(&norm);
    }
    return all;
  }

  // What all of these keep for backward since the last forward.
  std::size_t bytes_kept() {
    std::size_t sum = 0;
    for (const NormAddRelu<T>* norm : norms()) sum += norm->bytes_kept();
    return sum;
  }

  // Views into this network: they end with it and do not survive a move.
  std::vector<why_batch_norm::Parameter<T>> parameters() {
    std::vector<why_batch_norm::Parameter<T>> all{stem_.parameter()};
    for (Block<T>& block : blocks_) {
      for (Convolution<T>& convolution : block.convolutions()) all.push_back(convolution.parameter());
    }
    for (NormAddRelu<T>* norm : norms()) {
      for (const auto& parameter : norm->parameters()) all.push_back(parameter);
    }
    for (const auto& parameter : classifier_.parameters()) all.push_back(parameter);
    return all;
  }

 private:
  static std::vector<Block<T>> make_blocks(const NetworkShape& shape, Mode mode, why_batch_norm::Random& random) {
    std::vector<Block<T>> blocks;
    for (Index i = 0; i < shape.blocks; ++i) blocks.emplace_back(shape.channels, mode, random);
    return blocks;
  }

  // The mean over the pixels of each channel: [samples, channels].
  static void pool(const Tensor4<T>& features, Batch<T>& pooled) {
    pooled.resize(features.dimension(0), features.dimension(1));
    for (Index number = 0; number < features.dimension(0); ++number) {
      matrix(pooled).row(number) = sample(features, number).rowwise().mean().transpose();
    }
  }
  static void pool_backward(const Batch<T>& dpooled, Tensor4<T>& dfeatures) {
    for (Index number = 0; number < dfeatures.dimension(0); ++number) {
      auto gradient = sample(dfeatures, number);
      gradient.colwise() = matrix(dpooled).row(number).transpose() / static_cast<T>(gradient.cols());
    }
  }

  Convolution<T> stem_;
  NormAddRelu<T> stem_norm_;
  std::vector<Block<T>> blocks_;
  why_batch_norm::Linear<T> classifier_;
  Batch<T> pooled_;
  Batch<T> logits_;
  Batch<T> pooled_grad_;
  Tensor4<T> gradient_;
  Tensor4<T> scratch_;
  Tensor4<T> more_scratch_;
};

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_NETWORK_HPP
