// Mergeable per-channel statistics: the first primitive's result, and pooled statistics over many batches.

#ifndef BATCHNORM_MOMENTS_HPP
#define BATCHNORM_MOMENTS_HPP

#include <initializer_list>
#include <vector>

#include "batchnorm/detail/interface/values.hpp"
#include "batchnorm/detail/positions.hpp"
#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/tags.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T, class A>
constexpr bool check_accumulator_type() {
  if constexpr (check_scalar_type<T>()) {
    constexpr bool same = std::is_same_v<accumulator_t<T>, A>;
    static_assert(
        same,
        "batchnorm: the accumulator of the tensor's scalar type is not the moments' (Moments is for float and "
        "double; BasicMoments<T> for any other T)");
    return same;
  } else {
    return false;
  }
}

/// The way into moments for what has taken some by itself.
struct MomentsAccess {
  /// Adds `count` values per channel that weigh `weight` together, of moments_at(c) in channel c.
  template <class M, class A, class MomentsAt>
  static void add(M& total, Index count, const A& weight, const MomentsAt& moments_at) {
    for (Eigen::Index c = 0; c < total.channels(); ++c) {
      ChannelMoments<A> merged = total.at(c);
      merge_moments(merged, total.total_weight_, moments_at(c), weight);
      total.set(c, merged);
    }
    total.count_ += count;
    total.total_weight_ = total.total_weight_ + weight;
  }
};

}  // namespace detail

/// Count, mean and M2 (the sum of squared deviations from the mean) of each channel of any number of tensors, exact to
/// the last digits whatever the mean. Moments of parts merge into those of the whole (Chan, Golub and LeVeque 1979), so
/// they pool batches, threads or machines:
///
///     batchnorm::Moments moments(64);
///     for (const auto& batch : batches) moments.add(batch);
///     auto variance = moments.variance(batchnorm::Variance::unbiased);
///
/// `A` is the accumulator: double for tensors of float, double and the 16-bit types, else the tensor's own scalar.
template <class A>
class BasicMoments {
  static_assert(detail::check_scalar_type<A>() || !detail::is_real<A>, "the check has said what is wrong");

 public:
  /// One A per channel.
  using Vector = Eigen::Tensor<A, 1>;
  /// Eigen's signed type of sizes.
  using Index = Eigen::Index;

  /// The moments of no values, for `channels` channels, at least 1; else std::invalid_argument.
  explicit BasicMoments(Index channels) { resize(channels); }

  /// The moments of `count` values whose means and variances are known, one per channel: an Eigen vector or tensor of
  /// rank 1, a std::vector or whatever else `BatchNorm::set_weight` takes. `kind` says whether the variances are M2 /
  /// count, or unbiased, M2 / (count - 1). What others have taken of their data joins what is known here:
  ///
  ///     moments.merge(batchnorm::Moments(count, mean, variance));
  ///
  /// Of a count of 0 the values are ignored, and of an unbiased variance of one value too, which says nothing. Throws
  /// std::invalid_argument for no channels, for sizes that differ, for a negative count or variance, and for one value
  /// with a biased variance other than 0.
  template <class Mean = std::initializer_list<A>, class Variances = std::initializer_list<A>>
  BasicMoments(detail::Index count, const Mean& mean, const Variances& variance, Variance kind = Variance::biased) {
    if constexpr (detail::check_values_type<A, Mean>() && detail::check_values_type<A, Variances>()) {
      set(count, detail::copied_values<A>("mean", mean), detail::copied_values<A>("variance", variance), kind);
    }
  }

  /// A value of its own.
  BasicMoments(const BasicMoments&) = default;
  /// A value of its own.
  BasicMoments& operator=(const BasicMoments&) = default;
  // Eigen's moves of tensors swap pointers and cannot throw, but are not declared so.
  /// Copies nothing. What was moved from may be destroyed or assigned to.
  BasicMoments(BasicMoments&&) noexcept = default;
  /// Copies nothing. What was moved from may be destroyed or assigned to.
  BasicMoments& operator=(BasicMoments&&) noexcept = default;
  ~BasicMoments() = default;

  /// The number of channels.
  Index channels() const { return mean_.size(); }
  /// The number of values per channel, in 64 bits.
  detail::Index count() const { return count_; }
  /// The sum of the values' weights per channel, which is the count where none were given.
  const A& total_weight() const { return total_weight_; }
  /// The mean, [channels]; 0 of no values.
  const Vector& mean() const { return mean_; }
  /// What the mean's last digit leaves, [channels]: the sum of mean and mean_residual has twice an A's digits.
  const Vector& mean_residual() const { return mean_residual_; }
  /// The sum of squared deviations from the mean, [channels].
  const Vector& M2() const { return M2_; }

  /// M2 / total_weight, or M2 / (total_weight - 1) if unbiased, [channels]; 0 of fewer than two values, and where that
  /// divisor is not above 0.
  Vector variance(Variance kind = Variance::biased) const {
    Vector result(channels());
    for (Index c = 0; c < channels(); ++c) {
      const auto M2 = detail::AlgebraPack<A>::One::all(M2_(c));
      result(c) = count_ < 2 ? A(0) : detail::variance_of(M2, total_weight_, kind).v[0];
    }
    return result;
  }

  /// Adds the values of x, a tensor or expression of any rank, or a matrix or array as one of rank 2, with channels()
  /// channels on the axis given (negative: from the back); else std::invalid_argument and nothing is added.
  template <class X, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const X& x, int channel_axis = 1) {
    return add(Eigen::DefaultDevice(), x, channel_axis);
  }

  /// The same on the threads of an Eigen device, with the same bits as result.
  template <class Device, class X, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const Device& device, const X& x, int channel_axis = 1) {
    if constexpr (detail::check_accumulator_type<detail::scalar_of<X>, A>() && detail::check_device_type<Device>()) {
      add_values(device, x, channel_axis);
    }
    return *this;
  }

  /// \name Weighted values
  /// Adds the values of x, each as often as its weight says, `add(x, sample_weight(w))`, or those that a mask has 1
  /// for, `add(x, mask(m))`, in the call shapes of `add`. What has weight 0 adds nothing, whatever it is. count() grows
  /// by the number of values of weight above 0.
  ///@{
  template <class X, class W, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const X& x, const detail::SampleWeight<W>& weights) {
    return add(Eigen::DefaultDevice(), x, 1, weights);
  }
  template <class X, class W, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const X& x, int channel_axis, const detail::SampleWeight<W>& weights) {
    return add(Eigen::DefaultDevice(), x, channel_axis, weights);
  }
  template <class Device, class X, class W, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const Device& device, const X& x, int channel_axis, const detail::SampleWeight<W>& weights) {
    return add_weighted(device, x, channel_axis, detail::WeightKind::weights, weights.value);
  }
  template <class X, class M, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const X& x, const detail::Mask<M>& mask) {
    return add(Eigen::DefaultDevice(), x, 1, mask);
  }
  template <class X, class M, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const X& x, int channel_axis, const detail::Mask<M>& mask) {
    return add(Eigen::DefaultDevice(), x, channel_axis, mask);
  }
  template <class Device, class X, class M, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
  BasicMoments& add(const Device& device, const X& x, int channel_axis, const detail::Mask<M>& mask) {
    return add_weighted(device, x, channel_axis, detail::WeightKind::mask, mask.value);
  }
  ///@}

  /// Adds the values that another has seen, of as many channels; else std::invalid_argument.
  BasicMoments& merge(const BasicMoments& other) {
    detail::require(other.channels() == channels(), "expected moments of ", channels(), " channels, got ",
                    other.channels());
    const detail::Index count = other.count_;  // other may be this one
    const A weight = other.total_weight_;
    detail::MomentsAccess::add(*this, count, weight, [&](Index c) { return other.at(c); });
    return *this;
  }

 private:
  void resize(Index channels) {
    detail::require(channels >= 1, "expected at least 1 channel, got ", channels);
    mean_.resize(channels);
    mean_residual_.resize(channels);
    M2_.resize(channels);
    for (Index c = 0; c < channels; ++c) mean_(c) = mean_residual_(c) = M2_(c) = A(0);
  }

  void set(detail::Index count, const std::vector<A>& mean, const std::vector<A>& variance, Variance kind) {
    detail::require(count >= 0, "expected a count of at least 0, got ", count);
    detail::require(mean.size() == variance.size(), "expected as many variances as means, ", mean.size(), ", got ",
                    variance.size());
    resize(static_cast<Index>(mean.size()));
    if (count == 0) return;
    const bool unbiased = kind == Variance::unbiased;
    for (Index c = 0; c < channels(); ++c) {
      const A& each = variance[static_cast<std::size_t>(c)];
      detail::require(!(each < A(0)), "expected variances of at least 0, got a negative one in channel ", c);
      detail::require(unbiased || count > 1 || !(each > A(0)),
                      "expected a variance of 0 of one value, got another in channel ", c);
      mean_(c) = mean[static_cast<std::size_t>(c)];
      if (!unbiased || count > 1) M2_(c) = each * detail::number<A>(unbiased ? count - 1 : count);
    }
    count_ = count;
    total_weight_ = detail::number<A>(count);
  }

  // A tensor or matrix as the passes see it, with as many channels as here.
  template <class X>
  auto checked_values(const X& input, int axis) const {
    const auto values = detail::view_tensor<const detail::scalar_of<X>>(input, axis);
    const detail::Index found = values.shape[static_cast<std::size_t>(axis)];
    detail::require(found == channels(), "expected ", channels(), " channels on axis ", axis, ", got ", found,
                    " in shape ", detail::shape_text(values.shape),
                    detail::OtherAxisText<decltype(values.shape)>{values.shape, channels(), axis, false});
    return values;
  }

  template <class Device, class X, class W>
  BasicMoments& add_weighted(const Device& device, const X& x, int channel_axis, detail::WeightKind kind, const W& w) {
    using T = detail::scalar_of<X>;
    constexpr int layout = static_cast<int>(detail::layout_of<X>);
    if constexpr (detail::check_accumulator_type<T, A>() && detail::check_device_type<Device>() &&
                  detail::check_positions_type<detail::rank_of<X>, layout, W>()) {
      const auto& input = detail::evaluated(device, x);
      const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
      const auto values = checked_values(input, axis);
      const detail::View view = detail::make_view(values.shape, layout, axis);
      std::vector<T> weights;
      detail::set_position_weights(kind, w, values.shape, layout, axis, weights);
      if (view.size() == 0) return *this;
      const detail::Samples samples = detail::Samples::of(view, values.shape, layout, axis);
      const detail::ExtendedCall<T> call{view, samples, samples.count, {kind, weights.data()}, {}, nullptr, {}};
      detail::Workspace<A> workspace, memory(static_cast<std::size_t>(3 * channels()));
      const auto found = detail::quantities_in<detail::MomentArrays<A>>(memory.data(), channels());
      const auto weight = detail::ExtendedPasses<T>::take_moments(
          detail::AnyDevice(device), call, 0, detail::elements_of(values, view, axis), found, workspace);
      detail::MomentsAccess::add(*this, weight.positive, weight.total, [&](Index c) { return found.at(c); });
    }
    return *this;
  }

  template <class Device, class X>
  void add_values(const Device& device, const X& x, int channel_axis) {
    const auto& input = detail::evaluated(device, x);
    const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
    const auto values = checked_values(input, axis);
    const detail::View view = detail::make_view(values.shape, detail::layout_of<X>, axis);
    if (view.size() == 0) return;

    BasicMoments added(channels());
    added.count_ = view.values_per_channel();
    added.total_weight_ = detail::number<A>(added.count_);
    detail::Workspace<A> workspace;
    // For pooled statistics every digit counts: all sums are of A.
    detail::accumulate_moments<A>(
        device, view, detail::elements_of(values, view, axis), workspace,
        [&](detail::Index first, detail::Index count, const detail::MomentSums<A>& sums,
            const detail::NormalizeArrays<A>&) {
          using One = typename detail::AlgebraPack<A>::One;
          const One inverse_count = One::all(A(1) / added.total_weight_);
          for (detail::Index c = 0; c < count; ++c) {
            const auto moments = detail::moments_of(One::all(sums.pivot()[c]), One::all(sums.sum()[c]),
                                                    One::all(sums.squares()[c]), inverse_count);
            added.set(static_cast<Index>(first + c), {moments.mean.v[0], moments.mean_residual.v[0], moments.M2.v[0]});
          }
        },
        detail::NoPass());
    merge(added);
  }

  detail::ChannelMoments<A> at(Index c) const { return {mean_(c), mean_residual_(c), M2_(c)}; }
  void set(Index c, const detail::ChannelMoments<A>& moments) {
    mean_(c) = moments.mean;
    mean_residual_(c) = moments.mean_residual;
    M2_(c) = moments.M2;
  }

  Vector mean_{}, mean_residual_{}, M2_{};
  detail::Index count_ = 0;
  A total_weight_ = A(0);

  friend struct detail::MomentsAccess;
};

/// Moments of tensors of float, double, Eigen::half and Eigen::bfloat16.
using Moments = BasicMoments<double>;

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_MOMENTS_HPP
