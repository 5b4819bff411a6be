// The fully connected layer: y = x W + b.

#ifndef TRAIN_DIGITS_LINEAR_HPP
#define TRAIN_DIGITS_LINEAR_HPP

#include <cmath>
#include <vector>

#include "batch.hpp"
#include "parameter.hpp"
#include "random.hpp"

namespace train_digits {

template <typename T>
class Linear {
 public:
  // Weights are normal with deviation weight_scale * sqrt(2 / inputs); weight_scale 1 is the usual start for ReLU
  // networks (He et al. 2015, "Delving Deep into Rectifiers", equation 10). Biases start at 0.
  Linear(Index inputs, Index outputs, double weight_scale, Random& random)
      : weight_(inputs, outputs),
        bias_(RowVector::Zero(outputs)),
        weight_grad_(Matrix<T>::Zero(inputs, outputs)),
        bias_grad_(RowVector::Zero(outputs)) {
    const double deviation = weight_scale * std::sqrt(2.0 / static_cast<double>(inputs));
    for (Index i = 0; i < weight_.size(); ++i) weight_.data()[i] = static_cast<T>(deviation * random.normal());
  }

  Index inputs() const { return weight_.rows(); }
  Index outputs() const { return weight_.cols(); }

  // x is [samples, inputs], y becomes [samples, outputs].
  void forward(const Batch<T>& x, Batch<T>& y) const {
    y.resize(x.dimension(0), outputs());
    auto result = matrix(y);
    result.noalias() = matrix(x) * weight_;
    result.rowwise() += bias_;
  }

  // Adds to the gradients of weight and bias, given the x of forward and the gradient dy of the loss by y.
  void accumulate_gradients(const Batch<T>& x, const Batch<T>& dy) {
    weight_grad_.noalias() += matrix(x).transpose() * matrix(dy);
    bias_grad_ += matrix(dy).colwise().sum();
  }

  // The gradient dx of the loss by x, [samples, inputs].
  void backward(const Batch<T>& dy, Batch<T>& dx) const {
    dx.resize(dy.dimension(0), inputs());
    matrix(dx).noalias() = matrix(dy) * weight_.transpose();
  }

  void zero_grad() {
    weight_grad_.setZero();
    bias_grad_.setZero();
  }

  // Views into this layer: they end with it and do not survive a move.
  std::vector<Parameter<T>> parameters() {
    return {{weight_.data(), weight_grad_.data(), weight_.size()}, {bias_.data(), bias_grad_.data(), bias_.size()}};
  }

 private:
  using RowVector = Eigen::Matrix<T, 1, Eigen::Dynamic>;

  Matrix<T> weight_;  // [inputs, outputs]
  RowVector bias_;
  Matrix<T> weight_grad_;
  RowVector bias_grad_;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_LINEAR_HPP
