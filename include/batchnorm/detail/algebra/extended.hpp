// The per-channel algebra of statistics that are not one batch's own: of weighted values, mixed with the running ones,
// renormalized, and of parameters that differ from sample to sample.

#ifndef BATCHNORM_DETAIL_ALGEBRA_EXTENDED_HPP
#define BATCHNORM_DETAIL_ALGEBRA_EXTENDED_HPP

#include <algorithm>

#include "batchnorm/detail/algebra/batch_norm.hpp"
#include "batchnorm/detail/kernels/weighted.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The mean, as a sum of two numbers, and M2 of each channel.
template <class A>
struct MomentArrays : PerChannel<A, 3> {
  A* mean() const { return this->arrays[0]; }
  A* mean_residual() const { return this->arrays[1]; }
  A* M2() const { return this->arrays[2]; }

  ChannelMoments<A> at(Index c) const { return {mean()[c], mean_residual()[c], M2()[c]}; }
  void set(Index c, const ChannelMoments<A>& moments) const {
    mean()[c] = moments.mean;
    mean_residual()[c] = moments.mean_residual;
    M2()[c] = moments.M2;
  }
};

/// Makes `total`, weighted sums over some values of each channel, those over them and more.
template <class A>
void merge_sums(const WeightedMomentSums<A>& total, const WeightedMomentSums<A>& more, Index channels) {
  const auto moments_in = [](const WeightedMomentSums<A>& sums, Index c) {
    return MomentSums<A>{{{sums.pivot() + c, sums.sum() + c, sums.squares() + c}}};
  };
  for (Index c = 0; c < channels; ++c) {
    A &n = total.weight()[c], k = more.weight()[c];
    if (k == A(0)) continue;
    if (n == A(0)) {
      for (int i = 0; i < WeightedMomentSums<A>::count; ++i) total.arrays[i][c] = more.arrays[i][c];
      continue;
    }
    merge_sums(moments_in(total, c), n, moments_in(more, c), k, 1);
    n = n + k;
  }
}

/// What normalizes a channel, beside its ChannelStatistics: y = (x-hat * r + d) * weight + bias, where the mean in
/// x-hat is the batch's plus `offset`.
template <class A>
struct Normalizer {
  A mean, mean_residual, inv_std, offset, r, d;
};

template <class A>
Normalizer<A> batch_normalizer(const ChannelMoments<A>& moments, const A& weight, double epsilon) {
  using One = typename AlgebraPack<A>::One;
  if (weight == A(0)) return {A(0), A(0), A(0), A(0), A(1), A(0)};  // so that y is the bias
  return {moments.mean,
          moments.mean_residual,
          inverse_std(One::all(moments.M2 * (A(1) / weight)), epsilon).v[0],
          A(0),
          A(1),
          A(0)};
}

template <class A, class Param>
Normalizer<A> running_normalizer(const Param& mean, const Param& variance, double epsilon) {
  using One = typename AlgebraPack<A>::One;
  return {A(mean), A(0), inverse_std(One::all(A(variance)), epsilon).v[0], A(0), A(1), A(0)};
}

/// Mixed statistics (arXiv 2006.16971, equation 4): `share` is the batch's.
template <class A, class Param>
Normalizer<A> mixed_normalizer(const ChannelMoments<A>& moments, const A& weight, const A& share, const Param& mean,
                               const Param& variance, double epsilon) {
  using One = typename AlgebraPack<A>::One;
  if (weight == A(0)) return running_normalizer<A>(mean, variance, epsilon);
  // From the batch's mean, so that it keeps its digits where the share is large.
  const A offset = (A(1) - share) * ((A(mean) - moments.mean) - moments.mean_residual);
  const A mixed = moments.mean + offset;
  const A added = mixed - moments.mean;
  const A lost = (moments.mean - (mixed - added)) + (offset - added);
  const A mixed_variance = share * (moments.M2 / weight) + (A(1) - share) * A(variance);
  return {mixed, moments.mean_residual + lost, inverse_std(One::all(mixed_variance), epsilon).v[0], offset, A(1), A(0)};
}

/// Batch renormalization (arXiv 1702.03275, algorithm 1): sets r and d, and returns whether either was clipped.
template <class A, class Param>
bool renormalize(Normalizer<A>& batch, const Param& mean, const Param& variance, const A& batch_variance,
                 double epsilon, double r_max, double d_max) {
  using One = typename AlgebraPack<A>::One;
  const A running_inv_std = inverse_std(One::all(A(variance)), epsilon).v[0];
  const A std = square_root(One::all(batch_variance + number<A>(epsilon))).v[0];
  const A r = std * running_inv_std, d = ((batch.mean - A(mean)) + batch.mean_residual) * running_inv_std;
  const A most_r = number<A>(r_max), least_r = A(1) / most_r, most_d = number<A>(d_max), least_d = A(0) - most_d;
  batch.r = r < least_r ? least_r : most_r < r ? most_r : r;
  batch.d = d < least_d ? least_d : most_d < d ? most_d : d;
  return !(batch.r == r && batch.d == d);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ALGEBRA_EXTENDED_HPP
