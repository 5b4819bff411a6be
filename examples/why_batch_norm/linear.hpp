// The fully connected layer: y = x W + b, or y = x W where batch normalization follows, whose own shift takes the place
// of b (Ioffe and Szegedy 2015, section 3.2).

#ifndef WHY_BATCH_NORM_LINEAR_HPP
#define WHY_BATCH_NORM_LINEAR_HPP

#include <vector>

#include "batch.hpp"
#include "parameter.hpp"
#include "random.hpp"

namespace why_batch_norm {

template <typename T>
class Linear {
 public:
  // Weights are normal with mean 0 and this standard deviation; a bias starts at 0.
  Linear(Index inputs, Index outputs, bool bias, double weight_deviation, Random& random)
      : weight_(inputs, outputs),
        bias_(RowVector::Zero(bias ? outputs : 0)),
        weight_grad_(Matrix<T>::Zero(inputs, outputs)),
        bias_grad_(RowVector::Zero(bias_.size())) {
    for (Index i = 0; i < weight_.size(); ++i) weight_.data()[i] = static_cast<T>(weight_deviation * random.normal());
  }

  Index inputs() const { return weight_.rows(); }
  Index outputs() const { return weight_.cols(); }
  const Matrix<T>& weight_grad() const { return weight_grad_; }

  // x is [samples, inputs], y becomes [samples, outputs].
  void forward(const Batch<T>& x, Batch<T>& y) const {
    y.resize(x.dimension(0), outputs());
    auto result = matrix(y);
    result.noalias() = matrix(x) * weight_;
    if (bias_.size() > 0) result.rowwise() += bias_;
  }

  // Sets the gradients of weight and bias, given the x of forward and the gradient dy of the loss by y.
  void set_gradients(const Batch<T>& x, const Batch<T>& dy) {
    weight_grad_.noalias() = matrix(x).transpose() * matrix(dy);
    if (bias_.size() > 0) bias_grad_ = matrix(dy).colwise().sum();
  }

  // The gradient dx of the loss by x, [samples, inputs].
  void backward(const Batch<T>& dy, Batch<T>& dx) const {
    dx.resize(dy.dimension(0), inputs());
    matrix(dx).noalias() = matrix(dy) * weight_.transpose();
  }

  // Views into this layer: they end with it and do not survive a move.
  std::vector<Parameter<T>> parameters() {
    std::vector<Parameter<T>> all{{weight_.data(), weight_grad_.data(), weight_.size()}};
    if (bias_.size() > 0) all.emplace_back(bias_.data(), bias_grad_.data(), bias_.size());
    return all;
  }

 private:
  using RowVector = Eigen::Matrix<T, 1, Eigen::Dynamic>;

  Matrix<T> weight_;  // [inputs, outputs]
  RowVector bias_;    // empty without a bias
  Matrix<T> weight_grad_;
  RowVector bias_grad_;
};

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_LINEAR_HPP
