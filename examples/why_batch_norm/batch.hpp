// A batch of samples, one per row, and its view as an Eigen matrix.

#ifndef WHY_BATCH_NORM_BATCH_HPP
#define WHY_BATCH_NORM_BATCH_HPP

#include <Eigen/Core>
#include <unsupported/Eigen/CXX11/Tensor>

namespace why_batch_norm {

using Eigen::Index;

// [samples, features]
template <typename T>
using Batch = Eigen::Tensor<T, 2, Eigen::RowMajor>;

template <typename T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The same numbers as a matrix, for products and element-wise arithmetic. No copy is made.
template <typename T>
Eigen::Map<Matrix<T>> matrix(Batch<T>& batch) {
  return {batch.data(), batch.dimension(0), batch.dimension(1)};
}

template <typename T>
Eigen::Map<const Matrix<T>> matrix(const Batch<T>& batch) {
  return {batch.data(), batch.dimension(0), batch.dimension(1)};
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_BATCH_HPP
