// Stochastic gradient descent with momentum (Polyak 1964), as in PyTorch's torch.optim.SGD:
//
//     velocity = momentum * velocity + gradient
//     value    = value - learning_rate * velocity

#ifndef RESIDUAL_NETWORK_MOMENTUM_SGD_HPP
#define RESIDUAL_NETWORK_MOMENTUM_SGD_HPP

#include <Eigen/Core>
#include <cstddef>
#include <utility>
#include <vector>

#include "../why_batch_norm/parameter.hpp"

namespace residual_network {

template <typename T>
class MomentumSgd {
 public:
  MomentumSgd(std::vector<why_batch_norm::Parameter<T>> parameters, double momentum)
      : parameters_(std::move(parameters)), momentum_(static_cast<T>(momentum)) {
    for (const auto& parameter : parameters_) velocities_.push_back(Velocity::Zero(parameter.value.size()));
  }

  void step(double learning_rate) {
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      velocities_[i] = momentum_ * velocities_[i] + parameters_[i].gradient;
      parameters_[i].value -= static_cast<T>(learning_rate) * velocities_[i];
    }
  }

 private:
  using Velocity = Eigen::Array<T, Eigen::Dynamic, 1>;

  std::vector<why_batch_norm::Parameter<T>> parameters_;
  T momentum_;
  std::vector<Velocity> velocities_;
};

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_MOMENTUM_SGD_HPP
