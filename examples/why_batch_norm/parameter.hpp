// What an optimizer needs to know of a layer: where its numbers and their gradients are.

#ifndef WHY_BATCH_NORM_PARAMETER_HPP
#define WHY_BATCH_NORM_PARAMETER_HPP

#include <Eigen/Core>

namespace why_batch_norm {

template <typename T>
struct Parameter {
  using Values = Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>>;

  Values value;
  Values gradient;

  Parameter(T* value_data, T* gradient_data, Eigen::Index size)
      : value(value_data, size), gradient(gradient_data, size) {}
};

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_PARAMETER_HPP
