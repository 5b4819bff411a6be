// Images and feature maps, and views of them as Eigen matrices.

#ifndef RESIDUAL_NETWORK_TENSOR_HPP
#define RESIDUAL_NETWORK_TENSOR_HPP

#include <cstddef>

#include "../why_batch_norm/batch.hpp"

namespace residual_network {

using Eigen::Index;
using why_batch_norm::Batch;
using why_batch_norm::Matrix;
using why_batch_norm::matrix;

// [samples, channels, height, width]
template <typename T>
using Tensor4 = Eigen::Tensor<T, 4, Eigen::RowMajor>;

// One sample as a matrix [channels, height * width]. No copy is made.
template <typename T>
Eigen::Map<Matrix<T>> sample(Tensor4<T>& tensor, Index number) {
  const Index pixels = tensor.dimension(2) * tensor.dimension(3);
  return {tensor.data() + number * tensor.dimension(1) * pixels, tensor.dimension(1), pixels};
}

template <typename T>
Eigen::Map<const Matrix<T>> sample(const Tensor4<T>& tensor, Index number) {
  const Index pixels = tensor.dimension(2) * tensor.dimension(3);
  return {tensor.data() + number * tensor.dimension(1) * pixels, tensor.dimension(1), pixels};
}

// All numbers in a row, for element-wise arithmetic. No copy is made.
template <typename T>
Eigen::Map<Eigen::Array<T, Eigen::Dynamic, 1>> values(Tensor4<T>& tensor) {
  return {tensor.data(), tensor.size()};
}

template <typename T>
Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>> values(const Tensor4<T>& tensor) {
  return {tensor.data(), tensor.size()};
}

template <typename T>
std::size_t bytes(const Tensor4<T>& tensor) {
  return static_cast<std::size_t>(tensor.size()) * sizeof(T);
}

// Grey images, one per row of the batch, as tensors of one channel.
inline Tensor4<float> as_images(const Batch<float>& batch, Index height, Index width) {
  Tensor4<float> images(batch.dimension(0), 1, height, width);
  values(images) = Eigen::Map<const Eigen::ArrayXf>(batch.data(), batch.size());
  return images;
}

}  // namespace residual_network

#endif  // RESIDUAL_NETWORK_TENSOR_HPP
