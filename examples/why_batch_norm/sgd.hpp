// Plain stochastic gradient descent: no momentum, no decay, one learning rate throughout, so that nothing but batch
// normalization tells the runs apart.

#ifndef WHY_BATCH_NORM_SGD_HPP
#define WHY_BATCH_NORM_SGD_HPP

#include <vector>

#include "parameter.hpp"

namespace why_batch_norm {

template <typename T>
void sgd_step(std::vector<Parameter<T>>& parameters, T learning_rate) {
  for (Parameter<T>& parameter : parameters) parameter.value -= learning_rate * parameter.gradient;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_SGD_HPP
