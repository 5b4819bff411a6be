// Stochastic gradient descent with momentum.

#ifndef TRAIN_DIGITS_SGD_HPP
#define TRAIN_DIGITS_SGD_HPP

#include <cstddef>
#include <utility>
#include <vector>

#include "parameter.hpp"

namespace train_digits {

template <typename T>
class Sgd {
 public:
  // The network that owns the parameters must outlive the optimizer and stay where it is.
  Sgd(std::vector<Parameter<T>> parameters, T momentum) : parameters_(std::move(parameters)), momentum_(momentum) {
    for (const Parameter<T>& parameter : parameters_) velocities_.push_back(Values::Zero(parameter.value.size()));
  }

  // velocity = momentum * velocity + gradient;  value -= learning_rate * velocity
  void step(T learning_rate) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      velocities_[i] = momentum_ * velocities_[i] + parameters_[i].gradient;
      parameters_[i].value -= learning_rate * velocities_[i];
    }
  }

 private:
  using Values = Eigen::Array<T, Eigen::Dynamic, 1>;

  std::vector<Parameter<T>> parameters_;
  std::vector<Values> velocities_;
  T momentum_;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_SGD_HPP
