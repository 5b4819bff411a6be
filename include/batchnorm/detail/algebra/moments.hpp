// The mean and the sum of squared deviations of each channel, from sums about some pivot, and those of two sets of
// values together.

#ifndef BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP
#define BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP

#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/simd/isa.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The pack in which per-channel algebra is done, outside of kernels: the baseline's.
template <class A>
using AlgebraPack = KernelPack<A, A, baseline_bytes>;

/// The mean, as a sum of two numbers of which the second is the first's rounding error, and M2, the sum of squared
/// deviations from it.
template <class A>
struct ChannelMoments {
  A mean, mean_residual, M2;
};

/// The moments of values that weigh n together from their sums and 1 / n, for one channel or a pack of them.
template <class V>
BATCHNORM_ALWAYS_INLINE ChannelMoments<V> moments_of(const V& pivot, const V& sum, const V& squares,
                                                     const V& inverse_n) {
  const V offset = sum * inverse_n;
  // Knuth's TwoSum: mean + mean_residual = pivot + offset exactly.
  const V mean = pivot + offset;
  const V added = mean - pivot;
  return {mean, (pivot - (mean - added)) + (offset - added), not_negative(sub_mul(squares, sum, offset))};
}

// Of weighted values, n and k below are sums of weights; where each weighs 1, they are numbers of values.

/// Makes `total`, the moments of values that weigh n, those of them and of more that weigh k (Chan, Golub and LeVeque
/// 1979, equations 2.1, which hold for weights as for counts: West 1979).
template <class A>
void merge_moments(ChannelMoments<A>& total, const A& n, const ChannelMoments<A>& more, const A& k) {
  if (k == A(0)) return;
  if (n == A(0)) {
    total = more;
    return;
  }
  const A share = k / (n + k);
  const A delta = (more.mean - total.mean) + (more.mean_residual - total.mean_residual);
  const A offset = delta * share;
  const A mean = total.mean + offset;
  const A added = mean - total.mean;
  const A lost = (total.mean - (mean - added)) + (offset - added);
  total.M2 = total.M2 + more.M2 + delta * offset * n;
  // Renormalized, so that the residual stays below the mean's last digit.
  const A residual = total.mean_residual + lost;
  total.mean = mean + residual;
  total.mean_residual = residual - (total.mean - mean);
}

/// Makes `total`, the sums over values of each channel that weigh n, those over them and more that weigh k, neither 0.
template <class A>
void merge_sums(const MomentSums<A>& total, const A& n, const MomentSums<A>& more, const A& k, Index channels) {
  using One = typename AlgebraPack<A>::One;
  const One inverse_n = One::all(A(1) / n), inverse_k = One::all(A(1) / k);
  const A all = n + k;
  for (Index c = 0; c < channels; ++c) {
    A &pivot = total.pivot()[c], &sum = total.sum()[c], &squares = total.squares()[c];
    if (pivot == more.pivot()[c]) {
      sum = sum + more.sum()[c];
      squares = squares + more.squares()[c];
      continue;
    }
    const auto before = moments_of(One::all(pivot), One::all(sum), One::all(squares), inverse_n);
    const auto after =
        moments_of(One::all(more.pivot()[c]), One::all(more.sum()[c]), One::all(more.squares()[c]), inverse_k);
    ChannelMoments<A> merged{before.mean.v[0], before.mean_residual.v[0], before.M2.v[0]};
    merge_moments(merged, n, ChannelMoments<A>{after.mean.v[0], after.mean_residual.v[0], after.M2.v[0]}, k);
    // About the new pivot, which is the mean without its residual.
    pivot = merged.mean;
    sum = merged.mean_residual * all;
    squares = merged.M2 + sum * merged.mean_residual;
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP
