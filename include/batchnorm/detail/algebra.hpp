// The per-channel algebra between the primitives, in the accumulator type: every formula of the layer.

#ifndef BATCHNORM_DETAIL_ALGEBRA_HPP
#define BATCHNORM_DETAIL_ALGEBRA_HPP

#include <cmath>

#include "batchnorm/detail/accumulate_gradients.hpp"
#include "batchnorm/detail/accumulate_moments.hpp"
#include "batchnorm/detail/apply_gradients.hpp"
#include "batchnorm/detail/normalize.hpp"
#include "batchnorm/options.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A count or a setting as an accumulator.
template <class A>
A to_accumulator(double value) {
  return A(value);
}
template <class A>
A to_accumulator(Index value) {
  return A(static_cast<double>(value));
}

/// What normalization and its gradient need of a channel: x-hat = (x - mean - mean_residual) * inv_std.
template <class A>
struct ChannelStatistics {
  A mean, mean_residual, inv_std;
};

/// 1 / sqrt(variance + epsilon); 0 where that sum is 0, so that a constant channel normalizes to its bias for an
/// epsilon of 0 as for any other.
template <class A>
A inverse_std(const A& variance, double epsilon) {
  using std::sqrt;
  const A sum = variance + A(epsilon);
  if (sum == A(0)) return A(0);
  const A root = sqrt(sum);
  return A(1) / root;
}

/// The statistics of a batch (arXiv 1502.03167, algorithm 1): of n values, the biased variance M2 / n.
template <class A>
ChannelStatistics<A> batch_statistics(const ChannelMoments<A>& moments, Index n, double epsilon) {
  const A variance = moments.M2 / to_accumulator<A>(n);
  return {moments.mean, moments.mean_residual, inverse_std(variance, epsilon)};
}

/// M2 / n or M2 / (n - 1); of a single value, 0.
template <class A>
A variance_of(const A& M2, Index n, Variance kind) {
  if (n <= 1) return M2 * A(0);
  return M2 / to_accumulator<A>(kind == Variance::unbiased ? n - 1 : n);
}

/// y = x-hat * weight + bias.
template <class A>
NormalizeTerms<A> normalize_terms(const ChannelStatistics<A>& s, const A& weight, const A& bias) {
  const A scale = weight * s.inv_std;
  return {s.mean, s.mean_residual, scale, bias};
}

/// The gradient through the batch's own statistics (arXiv 1502.03167, section 3, gathered by powers of x - mean):
///
///     dx = (dy - mean(dy) - x-hat * mean(dy * x-hat)) * weight * inv_std
template <class A>
GradientTerms<A> gradient_terms(const ChannelStatistics<A>& s, const ChannelGradients<A>& sums, Index n,
                                const A& weight) {
  const A count = to_accumulator<A>(n);
  const A mean_dy = sums.dy / count;
  const A mean_dy_xhat = sums.dy_centered / count * s.inv_std;
  const A projection = mean_dy_xhat * s.inv_std;
  const A scale = weight * s.inv_std;
  return {mean_dy, s.mean, s.mean_residual, projection, scale};
}

/// The gradient through statistics that are constants, dx = dy * weight * inv_std, as a normalization of dy.
template <class A>
NormalizeTerms<A> constant_gradient_terms(const ChannelStatistics<A>& s, const A& weight) {
  const A scale = weight * s.inv_std;
  return {A(0), A(0), scale, A(0)};
}

/// dweight = sum(dy * x-hat); dbias is sum(dy) itself.
template <class A>
A weight_gradient(const ChannelStatistics<A>& s, const ChannelGradients<A>& sums) {
  return sums.dy_centered * s.inv_std;
}

/// running = (1 - momentum) * running + momentum * batch.
template <class A>
A moving_average(const A& running, const A& batch, const A& momentum) {
  return (A(1) - momentum) * running + momentum * batch;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ALGEBRA_HPP
