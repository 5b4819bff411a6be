// A layer in inference as part of the linear map or convolution before or after it, and a layer after a folded map.

#ifndef BATCHNORM_FOLDING_HPP
#define BATCHNORM_FOLDING_HPP

#include <vector>

#include "batchnorm/batch_norm.hpp"
#include "batchnorm/detail/folding.hpp"
#include "batchnorm/frozen_batch_norm.hpp"
#include "batchnorm/moments.hpp"
#include "batchnorm/weight_axes.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// \name Folding of a FrozenBatchNorm
/// As BatchNorm's members of the same names, which say more. A bias that is not there is returned.
///@{

/// Folds into the map before it, whose output channels lie on axis 0 or on that given.
template <class T, int Channels, class Weight, class Bias, class Axes = int, detail::if_bias<Bias> = 0>
void fold_into(const FrozenBatchNorm<T, Channels>& bn, Weight&& weight, Bias&& bias, Axes out_axis = 0) {
  if constexpr (detail::check_map_types<Weight, Bias, Axes>()) {
    detail::Folding::into(bn, weight, bias, detail::axes_of_map(out_axis, true));
  }
}
/// Folds into the map before it, and returns the bias that this needs.
template <class T, int Channels, class Weight, class Axes = int, detail::if_axes<Axes> = 0>
[[nodiscard]] auto fold_into(const FrozenBatchNorm<T, Channels>& bn, Weight&& weight, Axes out_axis = 0) {
  detail::bias_like<Weight> bias;
  if constexpr (detail::check_map_types<Weight, detail::bias_like<Weight>&, Axes>()) {
    detail::Folding::into(bn, weight, detail::NewBias<Weight>{bias}, detail::axes_of_map(out_axis, true));
  }
  return bias;
}

/// Folds into the map after it, whose input channels lie on axis 1 or on that given.
template <class T, int Channels, class Weight, class Bias, class Axes = int, detail::if_bias<Bias> = 0>
void fold_into_next(const FrozenBatchNorm<T, Channels>& bn, Weight&& weight, Bias&& bias, Axes in_axis = 1) {
  if constexpr (detail::check_map_types<Weight, Bias, Axes>()) {
    detail::Folding::into_next(bn, weight, bias, detail::axes_of_map(in_axis, false));
  }
}
/// Folds into the map after it, and returns the bias that this needs.
template <class T, int Channels, class Weight, class Axes = int, detail::if_axes<Axes> = 0>
[[nodiscard]] auto fold_into_next(const FrozenBatchNorm<T, Channels>& bn, Weight&& weight, Axes in_axis = 1) {
  detail::bias_like<Weight> bias;
  if constexpr (detail::check_map_types<Weight, detail::bias_like<Weight>&, Axes>()) {
    detail::Folding::into_next(bn, weight, detail::NewBias<Weight>{bias}, detail::axes_of_map(in_axis, false));
  }
  return bias;
}
///@}

template <class T, int Dims>
template <class Weight, class Bias, class Axes, detail::if_bias<Bias>>
void BatchNorm<T, Dims>::fold_into(Weight&& weight, Bias&& bias, Axes out_axis) const {
  batchnorm::fold_into(frozen(), weight, bias, out_axis);
}

template <class T, int Dims>
template <class Weight, class Axes, detail::if_axes<Axes>>
auto BatchNorm<T, Dims>::fold_into(Weight&& weight, Axes out_axis) const {
  return batchnorm::fold_into(frozen(), weight, out_axis);
}

template <class T, int Dims>
template <class Weight, class Bias, class Axes, detail::if_bias<Bias>>
void BatchNorm<T, Dims>::fold_into_next(Weight&& weight, Bias&& bias, Axes in_axis) const {
  batchnorm::fold_into_next(frozen(), weight, bias, in_axis);
}

template <class T, int Dims>
template <class Weight, class Axes, detail::if_axes<Axes>>
auto BatchNorm<T, Dims>::fold_into_next(Weight&& weight, Axes in_axis) const {
  return batchnorm::fold_into_next(frozen(), weight, in_axis);
}

/// A layer that changes nothing in inference, y = x to rounding, and is ready to be trained: to be put behind a map
/// into which a layer had been folded. Its running statistics are those of the map's outputs, of which the moments are
/// to be taken over some batches; its weight is sqrt(running_var + epsilon) and its bias is running_mean. An activation
/// in the options follows, as ever.
///
///     batchnorm::Moments moments(64);
///     for (const auto& x : batches) moments.add(folded(x));
///     auto bn = batchnorm::identity_layer<float, 4>(batchnorm::BatchNormOptions(64), moments);
///
/// Throws std::invalid_argument for another number of channels, for options without scale, shift or running
/// statistics, and for moments of no values.
template <class T, int Dims, class Options, class A>
BatchNorm<T, Dims> identity_layer(const Options& options, const BasicMoments<A>& moments) {
  using Param = typename BatchNorm<T, Dims>::Param;
  detail::require(options.affine() && options.track_running_stats(),
                  "expected options with scale, shift and running statistics for a layer that begins as the identity");
  detail::require(moments.channels() == options.num_features(), "expected moments of ", options.num_features(),
                  " channels, got ", moments.channels());
  detail::require(moments.count() > 0, "expected the moments of some values, got those of none");
  BatchNorm<T, Dims> result(options);
  result.set_running_mean(moments.mean()).set_running_var(moments.variance(options.running_variance()));
  for (Eigen::Index c = 0; c < options.num_features(); ++c) {
    using std::sqrt;
    const A variance = A(result.running_var()(c));
    result.weight()(c) = static_cast<Param>(sqrt(A(variance + A(options.epsilon()))));
    result.bias()(c) = result.running_mean()(c);
  }
  result.num_batches_tracked(1);
  return result;
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_FOLDING_HPP
