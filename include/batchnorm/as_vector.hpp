// State vectors as Eigen's vectors.

#ifndef BATCHNORM_AS_VECTOR_HPP
#define BATCHNORM_AS_VECTOR_HPP

#include "batchnorm/detail/interface/eigen.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// A tensor of rank 1 seen as a column vector, to read and to assign: a layer's state is held in such tensors, and
/// linear algebra wants vectors. Copies nothing; the map is good as long as the tensor is there and is not resized.
///
///     Eigen::VectorXf deviation = batchnorm::as_vector(bn.running_var()).cwiseSqrt();
///     batchnorm::as_vector(bn.weight()) *= 2;
template <class T, int Options, class IndexType>
Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1>> as_vector(Eigen::Tensor<T, 1, Options, IndexType>& tensor) {
  return {tensor.data(), static_cast<Eigen::Index>(tensor.size())};
}

/// The same of a constant tensor, to read.
template <class T, int Options, class IndexType>
Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>> as_vector(const Eigen::Tensor<T, 1, Options, IndexType>& tensor) {
  return {tensor.data(), static_cast<Eigen::Index>(tensor.size())};
}

/// A temporary tensor's values in a vector of its own, since a map would outlive what it shows.
template <class T, int Options, class IndexType>
Eigen::Matrix<T, Eigen::Dynamic, 1> as_vector(Eigen::Tensor<T, 1, Options, IndexType>&& tensor) {
  return as_vector(static_cast<const Eigen::Tensor<T, 1, Options, IndexType>&>(tensor));
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_AS_VECTOR_HPP
