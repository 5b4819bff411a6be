// The mean and the sum of squared deviations of each channel, from sums about some center, and those of two sets of
// values together.

#ifndef BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP
#define BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP

#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/simd/pack.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The mean, as a sum of two numbers of which the second is the first's rounding error, and M2, the sum of squared
/// deviations from it.
template <class A>
struct ChannelMoments {
  A mean, mean_residual, M2;
};

/// Per channel, the sums over some of its values of their deviations from `center` and of those squared.
template <class A>
struct MomentSums : PerChannel<A, 3> {
  A* center() const { return this->arrays[0]; }
  A* sum() const { return this->arrays[1]; }
  A* squares() const { return this->arrays[2]; }
};

/// The moments of n values from their sums and 1 / n, for one channel or a pack of them.
template <class V>
BATCHNORM_ALWAYS_INLINE ChannelMoments<V> moments_of(const V& center, const V& sum, const V& squares,
                                                     const V& inverse_n) {
  const V shift = sum * inverse_n;
  // Knuth's TwoSum: mean + mean_residual = center + shift exactly.
  const V mean = center + shift;
  const V added = mean - center;
  return {mean, (center - (mean - added)) + (shift - added), not_negative(sub_mul(squares, sum, shift))};
}

/// Makes `total`, the moments of n values, those of them and k more (Chan, Golub and LeVeque 1979, equations 2.1).
template <class A>
void merge_moments(ChannelMoments<A>& total, Index n, const ChannelMoments<A>& more, Index k) {
  if (k == 0) return;
  if (n == 0) {
    total = more;
    return;
  }
  const A share = number<A>(k) / number<A>(n + k);
  const A delta = (more.mean - total.mean) + (more.mean_residual - total.mean_residual);
  const A shift = delta * share;
  const A mean = total.mean + shift;
  const A added = mean - total.mean;
  const A lost = (total.mean - (mean - added)) + (shift - added);
  total.M2 = total.M2 + more.M2 + delta * shift * number<A>(n);
  // Renormalized, so that the residual stays below the mean's last digit.
  const A residual = total.mean_residual + lost;
  total.mean = mean + residual;
  total.mean_residual = residual - (total.mean - mean);
}

/// Makes `total`, the sums over n values of each channel, those over them and k more.
template <class A>
void merge_sums(const MomentSums<A>& total, Index n, const MomentSums<A>& more, Index k, Index channels) {
  using One = Pack<A, 1>;
  const One inverse_n = One::all(A(1) / number<A>(n)), inverse_k = One::all(A(1) / number<A>(k));
  const A all = number<A>(n + k);
  for (Index c = 0; c < channels; ++c) {
    A &center = total.center()[c], &sum = total.sum()[c], &squares = total.squares()[c];
    if (center == more.center()[c]) {
      sum = sum + more.sum()[c];
      squares = squares + more.squares()[c];
      continue;
    }
    const auto before = moments_of(One::all(center), One::all(sum), One::all(squares), inverse_n);
    const auto after =
        moments_of(One::all(more.center()[c]), One::all(more.sum()[c]), One::all(more.squares()[c]), inverse_k);
    ChannelMoments<A> merged{before.mean.v[0], before.mean_residual.v[0], before.M2.v[0]};
    merge_moments(merged, n, ChannelMoments<A>{after.mean.v[0], after.mean_residual.v[0], after.M2.v[0]}, k);
    // About the new center, which is the mean without its residual.
    center = merged.mean;
    sum = merged.mean_residual * all;
    squares = merged.M2 + sum * merged.mean_residual;
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ALGEBRA_MOMENTS_HPP
