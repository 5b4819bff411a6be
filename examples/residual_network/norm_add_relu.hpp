// What follows every convolution of a residual network,
//
//     y = relu(bn(x))    or    y = relu(bn(x) + r)
//
// fused, which is one call of the library, or as operations one after another, for comparison.

#ifndef RESIDUAL_NETWORK_NORM_ADD_RELU_HPP
#define RESIDUAL_NETWORK_NORM_ADD_RELU_HPP

#include <batchnorm/batchnorm.hpp>
#include <chrono>
#include <cstddef>
#include <vector>

#include "../why_batch_norm/parameter.hpp"
#include "tensor.hpp"

namespace residual_network {

enum class Mode {
  fused,     // one operation
  unfused,   // three, and relu leaves its input as it is and keeps it for its backward
  in_place,  // three, and relu overwrites its input; its backward looks at its output
};

// How long something took since it was last asked.
class Stopwatch {
 public:
  template <typename Run>
  void time(const Run& run) {
    const auto start = std::chrono::steady_clock::now();
    run();
    elapsed_ += std::chrono::steady_clock::now() - start;
  }
  // The milliseconds since the last call of this.
  double take() {
    const double milliseconds = elapsed_.count();
    elapsed_ = {};
    return milliseconds;
  }

 private:
  std::chrono::duration<double, std::milli> elapsed_{};
};

template <typename T>
class NormAddRelu {
 public:
  NormAddRelu(Index channels, Mode mode) : mode_(mode), bn_(make(channels, mode)) {}

  // Where the convolution before this writes what is to be normalized. It is kept for backward.
  Tensor4<T>& input() { return x_; }
  // The result of forward, which the convolution after this reads. It is kept for backward.
  const Tensor4<T>& output() const { return y_; }

  void forward() {
    make_room();
    forward_time_.time([&] {
      if (mode_ == Mode::fused) {
        bn_.forward(x_, y_);
      } else {
        bn_.forward(x_, relu_input());
        relu();
      }
    });
  }

  void forward(const Tensor4<T>& residual) {
    make_room();
    forward_time_.time([&] {
      if (mode_ == Mode::fused) {
        bn_.forward(x_, y_, batchnorm::residual(residual));
      } else {
        bn_.forward(x_, relu_input());
        values(relu_input()) += values(residual);
        relu();
      }
    });
  }

  // In place: dy becomes the gradient of the loss by the input. Sets the gradients of weight and bias.
  void backward(Tensor4<T>& dy) {
    bn_.zero_grad();
    backward_time_.time([&] {
      if (mode_ != Mode::fused) relu_backward(dy);
      bn_.backward(x_, dy, dy);
    });
  }

  // The same after a forward with a residual: dx becomes the gradient by the input, and dy that by the residual.
  void backward(Tensor4<T>& dy, Tensor4<T>& dx) {
    dx.resize(x_.dimensions());
    bn_.zero_grad();
    backward_time_.time([&] {
      if (mode_ == Mode::fused) {
        bn_.backward(x_, dy, dx, batchnorm::output(y_), batchnorm::residual_grad(dy));
      } else {
        relu_backward(dy);  // an addition hands its gradient on to both summands as it is
        bn_.backward(x_, dy, dx);
      }
    });
  }

  // In place, by the running statistics.
  void infer(Tensor4<T>& x) const {
    bn_.infer(x, x);
    if (mode_ != Mode::fused) values(x) = values(x).max(T(0));
  }
  void infer(Tensor4<T>& x, const Tensor4<T>& residual) const {
    if (mode_ == Mode::fused) {
      bn_.infer(x, x, batchnorm::residual(residual));
    } else {
      bn_.infer(x, x);
      values(x) = (values(x) + values(residual)).max(T(0));
    }
  }

  // Of the tensors that the last forward left for backward. (The statistics, a few numbers a channel, are left out.)
  std::size_t bytes_kept() const { return bytes(x_) + bytes(y_) + bytes(relu_input_); }

  Stopwatch& forward_time() { return forward_time_; }
  Stopwatch& backward_time() { return backward_time_; }

  // Views into this layer: they end with it and do not survive a move.
  std::vector<why_batch_norm::Parameter<T>> parameters() {
    return {{bn_.weight().data(), bn_.weight_grad().data(), bn_.weight().size()},
            {bn_.bias().data(), bn_.bias_grad().data(), bn_.bias().size()}};
  }

 private:
  using BatchNorm = batchnorm::BatchNorm<T, 4>;

  static BatchNorm make(Index channels, Mode mode) {
    const batchnorm::BatchNormOptions options(channels);
    if (mode == Mode::fused) return options.activation(batchnorm::Activation::relu);
    return options;
  }

  void make_room() {
    y_.resize(x_.dimensions());
    if (mode_ == Mode::unfused) relu_input_.resize(x_.dimensions());
  }

  Tensor4<T>& relu_input() { return mode_ == Mode::in_place ? y_ : relu_input_; }

  void relu() { values(y_) = values(relu_input()).max(T(0)); }

  // The input is above 0 where the output is.
  void relu_backward(Tensor4<T>& dy) { values(dy) = (values(relu_input()) > T(0)).select(values(dy), T(0)); }

  Mode mode_;
  BatchNorm bn_;
  Tensor4<T> x_;
  Tensor4<T> relu_input_;  // bn(x) or bn(x) + r; empty but where the mode is unfused
  Tensor4<T> y_;
  Stopwatch forward_time_;
  Stopwatch backward_time_;
};

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_NORM_ADD_RELU_HPP
