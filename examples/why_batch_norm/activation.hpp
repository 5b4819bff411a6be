// The activations of the hidden layers: the sigmoid 1 / (1 + exp(-x)) and the rectifier max(x, 0).

#ifndef WHY_BATCH_NORM_ACTIVATION_HPP
#define WHY_BATCH_NORM_ACTIVATION_HPP

#include "batch.hpp"

namespace why_batch_norm {

enum class Activation { sigmoid, relu };

template <typename T>
void activation_forward(Activation activation, const Batch<T>& x, Batch<T>& y) {
  y.resize(x.dimensions());
  if (activation == Activation::sigmoid) {
    // By the hyperbolic tangent, which does not overflow.
    matrix(y) = (T(0.5) * (T(0.5) * matrix(x).array()).tanh() + T(0.5)).matrix();
  } else {
    matrix(y) = matrix(x).cwiseMax(T(0));
  }
}

// In place, from the activation's result y: dy becomes the gradient by x. Where a rectifier gave 0 nothing passes.
template <typename T>
void activation_backward(Activation activation, const Batch<T>& y, Batch<T>& dy) {
  const auto result = matrix(y).array();
  if (activation == Activation::sigmoid) {
    matrix(dy).array() *= result * (T(1) - result);
  } else {
    matrix(dy).array() *= (result > T(0)).template cast<T>();
  }
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_ACTIVATION_HPP
