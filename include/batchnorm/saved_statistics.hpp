// What a forward pass leaves for its backward pass.

#ifndef BATCHNORM_SAVED_STATISTICS_HPP
#define BATCHNORM_SAVED_STATISTICS_HPP

#include "batchnorm/detail/algebra/batch_norm.hpp"

BATCHNORM_NAMESPACE_BEGIN

namespace detail {
template <class T, int Dims>
struct Layer;
}

/// The per-channel statistics with which a BatchNorm of rank Dims normalized, as its `saved_statistics()` gives them
/// after a forward pass. A copy, handed to `backward`, goes back through that forward however many have followed it:
///
///     auto y1 = bn.forward(x1);
///     auto saved = bn.saved_statistics();
///     auto y2 = bn.forward(x2);
///     auto dx2 = bn.backward(x2, dy2);
///     auto dx1 = bn.backward(x1, dy1, saved);
///
/// A is the layer's Accumulator. The vectors have one element per channel, which is 0 before the first forward and
/// unspecified after one of an empty x.
template <class A, int Dims>
class SavedStatistics {
 public:
  /// One A per channel.
  using Vector = Eigen::Tensor<A, 1>;

  /// Whether there has been a forward.
  bool has_forward() const { return has_forward_; }
  /// The mean that was subtracted, to the accumulator's precision, [channels].
  const Vector& mean() const { return mean_; }
  /// What that precision leaves of the mean, [channels]: the sum of mean and mean_residual is the mean to twice that
  /// precision. 0 for running statistics.
  const Vector& mean_residual() const { return mean_residual_; }
  /// 1 / sqrt(variance + epsilon), [channels].
  const Vector& inv_std() const { return inv_std_; }
  /// Whether these were running statistics, through which no gradient flows.
  bool constant() const { return constant_; }
  /// The shape of the forward's input.
  const std::array<Eigen::Index, static_cast<std::size_t>(Dims)>& shape() const { return shape_; }

 private:
  template <class T, int D>
  friend struct detail::Layer;

  void resize(Eigen::Index channels) {
    for (Vector* vector : {&mean_, &mean_residual_, &inv_std_}) {
      vector->resize(channels);
      vector->setZero();
    }
  }
  // Written to only where the object is not const.
  detail::ChannelStatistics<A> arrays() const {
    detail::ChannelStatistics<A> result;
    result.arrays[0] = const_cast<A*>(mean_.data());
    result.arrays[1] = const_cast<A*>(mean_residual_.data());
    result.arrays[2] = const_cast<A*>(inv_std_.data());
    return result;
  }

  Vector mean_{}, mean_residual_{}, inv_std_{};
  std::array<Eigen::Index, static_cast<std::size_t>(Dims)> shape_{};
  const void* overwritten_ = nullptr;  // the input's memory, where the output replaced it; compared, never read
  bool constant_ = false;
  bool has_forward_ = false;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_SAVED_STATISTICS_HPP
