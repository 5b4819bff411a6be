// The rectifier: y = max(x, 0).

#ifndef TRAIN_DIGITS_RELU_HPP
#define TRAIN_DIGITS_RELU_HPP

#include "batch.hpp"

namespace train_digits {

template <typename T>
void relu_forward(const Batch<T>& x, Batch<T>& y) {
  y.resize(x.dimensions());
  matrix(y) = matrix(x).cwiseMax(T(0));
}

// In place: dy becomes the gradient by x. Where y is 0 nothing passes.
template <typename T>
void relu_backward(const Batch<T>& y, Batch<T>& dy) {
  matrix(dy).array() *= (matrix(y).array() > T(0)).template cast<T>();
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_RELU_HPP
