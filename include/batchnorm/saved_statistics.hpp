// What a forward pass leaves for its backward pass.

#ifndef BATCHNORM_SAVED_STATISTICS_HPP
#define BATCHNORM_SAVED_STATISTICS_HPP

#include <utility>
#include <vector>

#include "batchnorm/detail/algebra/batch_norm.hpp"
#include "batchnorm/detail/movable_flag.hpp"

BATCHNORM_NAMESPACE_BEGIN

namespace detail {
template <class T, int Dims>
struct Layer;
template <class T, int Dims>
struct ExtendedLayer;

/// Which statistics normalize a call.
enum class StatisticsKind {
  batch,    ///< those of its own x, through which the gradient flows
  running,  ///< the running ones, which are constants in backward
  mixed,    ///< a mixture of both
};

/// What the weights of a call are.
enum class WeightKind { none, mask, weights };

/// What the backward of an extended forward needs besides: of each group and channel, or of each group.
template <class A>
struct ExtendedStatistics {
  bool used = false;
  Eigen::Index groups = 1, group_samples = 0;
  WeightKind weights = WeightKind::none;
  bool has_affine = false;
  bool synchronized = false;
  std::vector<A> offset{}, r{}, d{};       // Normalizer's; empty for 0, 1 and 0
  std::vector<A> group_weight{}, share{};  // the batch's in the statistics
  std::vector<A> own_weight{};             // as group_weight, of this process alone
};
}  // namespace detail

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
/// unspecified after one of an empty x. After a forward with ghost batches they have one per group and channel, [groups
/// * channels], a group's channels one after another. Statistics that were moved from are those of no forward.
template <class A, int Dims>
class SavedStatistics {
 public:
  /// One A per channel.
  using Vector = Eigen::Tensor<A, 1>;

  /// The statistics of no forward, of no channels.
  SavedStatistics() = default;
  /// A value of its own.
  SavedStatistics(const SavedStatistics&) = default;
  /// A value of its own.
  SavedStatistics& operator=(const SavedStatistics&) = default;
  // Eigen's moves of tensors swap pointers and cannot throw, but are not declared so.
  /// Copies nothing. What was moved from may be destroyed or assigned to.
  SavedStatistics(SavedStatistics&&) noexcept = default;
  /// Copies nothing. What was moved from may be destroyed or assigned to.
  SavedStatistics& operator=(SavedStatistics&&) noexcept = default;
  ~SavedStatistics() = default;

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
  bool constant() const { return kind_ == detail::StatisticsKind::running; }
  /// The shape of the forward's input.
  const std::array<detail::Index, static_cast<std::size_t>(Dims)>& shape() const { return shape_; }

 private:
  template <class T, int D>
  friend struct detail::Layer;
  template <class T, int D>
  friend struct detail::ExtendedLayer;

  // Statistics of `statistics` channels, and the weight and bias of the forward of `parameters`.
  void resize(Eigen::Index statistics, Eigen::Index parameters) {
    for (Vector* vector : {&mean_, &mean_residual_, &inv_std_}) {
      vector->resize(statistics);
      vector->setZero();
    }
    for (Vector* vector : {&weight_, &bias_}) {
      vector->resize(parameters);
      vector->setZero();
    }
  }
  // Member by member, and the sums only where there are some: every forward pays it, and std::swap would move whole
  // objects three times.
  void swap(SavedStatistics& other) noexcept {
    std::swap(mean_, other.mean_);
    std::swap(mean_residual_, other.mean_residual_);
    std::swap(inv_std_, other.inv_std_);
    std::swap(shape_, other.shape_);
    std::swap(kind_, other.kind_);
    std::swap(has_forward_, other.has_forward_);
    std::swap(has_residual_, other.has_residual_);
    if (weight_.size() != 0 || other.weight_.size() != 0) {
      std::swap(weight_, other.weight_);
      std::swap(bias_, other.bias_);
    }
    if (extended_.used || other.extended_.used) std::swap(extended_, other.extended_);
    if (has_sums_ || other.has_sums_) {
      std::swap(has_sums_, other.has_sums_);
      std::swap(layout_, other.layout_);
      sums_.swap(other.sums_);
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
  detail::ExtendedStatistics<A> extended_{};
  // Of a layer that was made with an activation: what the forward scaled and shifted by, whatever the layer's weight
  // and bias have become since.
  Vector weight_{}, bias_{};
  std::array<detail::Index, static_cast<std::size_t>(Dims)> shape_{};
  detail::StatisticsKind kind_ = detail::StatisticsKind::batch;
  detail::MovableFlag has_forward_ = false;
  bool has_residual_ = false;
  // For BatchNorm::check_backward: the sums over the forward's x, of each kind one per channel, and the layout of x,
  // which decides the order of summation. Unspecified where has_sums_ is false.
  bool has_sums_ = false;
  int layout_ = Eigen::ColMajor;
  std::vector<A> sums_{};
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_SAVED_STATISTICS_HPP
