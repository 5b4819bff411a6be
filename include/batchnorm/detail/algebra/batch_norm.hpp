// The per-channel algebra between the primitives, in the accumulator type: every formula of the layer.

#ifndef BATCHNORM_DETAIL_ALGEBRA_BATCH_NORM_HPP
#define BATCHNORM_DETAIL_ALGEBRA_BATCH_NORM_HPP

#include <algorithm>

#include "batchnorm/detail/algebra/moments.hpp"
#include "batchnorm/detail/simd/memory.hpp"
#include "batchnorm/options.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// The formulas are written for a number or a pack of them, V; what calls them goes over the arrays of all channels.

/// What normalization and its gradient need of each channel: x-hat = (x - mean - mean_residual) * inv_std.
template <class A>
struct ChannelStatistics : PerChannel<A, 3> {
  A* mean() const { return this->arrays[0]; }
  A* mean_residual() const { return this->arrays[1]; }
  A* inv_std() const { return this->arrays[2]; }
};

/// The learnable scale and shift from some channel on; null where they are 1 and 0.
template <class Param>
struct Affine {
  const Param *weight, *bias;
};

template <class V, class Param>
BATCHNORM_ALWAYS_INLINE V load_or(const Param* values, Index c, double otherwise) {
  return values == nullptr ? V::all(number<typename V::Scalar>(otherwise)) : load<V>(values + c);
}

/// 1 / sqrt(variance + epsilon); 0 where that sum is 0, so that a constant channel normalizes to its bias for an
/// epsilon of 0 as for any other.
template <class V>
BATCHNORM_ALWAYS_INLINE V inverse_std(const V& variance, double epsilon) {
  return inverse_or_zero(square_root(variance + V::all(number<typename V::Scalar>(epsilon))));
}

/// M2 / n or M2 / (n - 1), n being the number of values or the sum of their weights; 0 where that divisor is not above
/// 0, as for a single value. (Weights are often scaled to a sum of 1, of which the biased variance is M2 itself.)
template <class V>
BATCHNORM_ALWAYS_INLINE V variance_of(const V& M2, const typename V::Scalar& n, Variance kind) {
  using A = typename V::Scalar;
  const A divisor = kind == Variance::unbiased ? A(n - A(1)) : n;
  if (divisor <= A(0)) return M2 * V::all(A(0));
  return M2 / V::all(divisor);
}

/// The statistics of a batch of values that weigh n for each of some channels (arXiv 1502.03167, algorithm 1, with the
/// biased variance M2 / n), and M2 itself where it is asked for.
template <class A>
void set_batch_statistics(Index channels, const MomentSums<A>& sums, const A& n, double epsilon,
                          const ChannelStatistics<A>& result, A* M2) {
  const A inverse_n = A(1) / n;
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    const V inverse_count = V::all(inverse_n);
    const auto moments =
        moments_of(load<V>(sums.pivot() + c), load<V>(sums.sum() + c), load<V>(sums.squares() + c), inverse_count);
    store(result.mean() + c, moments.mean);
    store(result.mean_residual() + c, moments.mean_residual);
    store(result.inv_std() + c, inverse_std(moments.M2 * inverse_count, epsilon));
    if (M2 != nullptr) store(M2 + c, moments.M2);
  });
}

/// The running statistics as those of some channels.
template <class A, class Param>
void set_running_statistics(Index channels, const Param* mean, const Param* variance, double epsilon,
                            const ChannelStatistics<A>& result) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    store(result.mean() + c, load<V>(mean + c));
    store(result.mean_residual() + c, V::all(A(0)));
    store(result.inv_std() + c, inverse_std(load<V>(variance + c), epsilon));
  });
}

/// The coefficients of y by running statistics, which have no residual.
template <class A, class Param>
void set_running_coefficients(Index channels, const Param* mean, const Param* variance, double epsilon,
                              const Affine<Param>& affine, const NormalizeArrays<A>& result) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    store(result.mean() + c, load<V>(mean + c));
    store(result.scale() + c, load_or<V>(affine.weight, c, 1) * inverse_std(load<V>(variance + c), epsilon));
    store(result.shift() + c, load_or<V>(affine.bias, c, 0));
  });
}

/// y = x-hat * weight + bias.
template <class A, class Param>
void set_normalize_coefficients(Index channels, const ChannelStatistics<A>& s, const Affine<Param>& affine,
                                const NormalizeArrays<A>& result) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    store(result.mean() + c, load<V>(s.mean() + c));
    store(result.mean_residual() + c, load<V>(s.mean_residual() + c));
    store(result.scale() + c, load_or<V>(affine.weight, c, 1) * load<V>(s.inv_std() + c));
    store(result.shift() + c, load_or<V>(affine.bias, c, 0));
  });
}

/// Makes `total`, the sums of the gradient over some values of each channel, those over these and more.
template <class A>
void merge_sums(const GradientSumArrays<A>& total, const GradientSumArrays<A>& more, Index channels) {
  for (Index c = 0; c < channels; ++c) {
    total.dy()[c] = total.dy()[c] + more.dy()[c];
    total.products()[c] = total.products()[c] + more.products()[c];
    total.x()[c] = total.x()[c] + more.x()[c];
  }
}

/// sum(dy) and sum(dy * (x - mean)).
template <class V>
struct ChannelGradients {
  V dy, dy_centered;
};

/// Of the channels from c on, of n values each. Their sums were taken about the mean without its residual or, about x's
/// own mean, about what is off by as much as sum(x - mean) tells. There dy's pivot, times a sum of deviations of 0,
/// contributes nothing.
template <class V, class A>
BATCHNORM_ALWAYS_INLINE ChannelGradients<V> gradients_of(const GradientSumArrays<A>& sums, const A* mean_residuals,
                                                         Index c, Index n, bool own_means) {
  const V count = V::all(number<A>(n)), dy = load<V>(sums.dy() + c);
  const V off = own_means ? load<V>(sums.x() + c) / count : load<V>(mean_residuals + c);
  const V centered_dy = sub_mul(dy, load<V>(sums.dy_pivot() + c), count);
  return {dy, sub_mul(load<V>(sums.products() + c), centered_dy, off)};
}

/// The gradient through the batch's own statistics (arXiv 1502.03167, section 3, gathered by powers of x - mean), and
/// those of the parameters:
///
///     dx = (dy - mean(dy) - x-hat * mean(dy * x-hat)) * weight * inv_std
///     dweight = sum(dy * x-hat)
///     dbias = sum(dy)
template <class A, class Param>
void set_gradient_coefficients(Index channels, const ChannelStatistics<A>& s, const GradientSumArrays<A>& sums, Index n,
                               bool own_means, const Param* weight, const GradientArrays<A>& result, A* dweight,
                               A* dbias) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    const V count = V::all(number<A>(n)), inv_std = load<V>(s.inv_std() + c);
    const ChannelGradients<V> gradients = gradients_of<V>(sums, s.mean_residual(), c, n, own_means);
    store(result.mean_dy() + c, gradients.dy / count);
    store(result.mean() + c, load<V>(s.mean() + c));
    store(result.mean_residual() + c, load<V>(s.mean_residual() + c));
    store(result.projection() + c, gradients.dy_centered / count * inv_std * inv_std);
    store(result.scale() + c, load_or<V>(weight, c, 1) * inv_std);
    // No value is farther than sqrt(n) standard deviations from the mean of n.
    store(result.max_deviation() + c, inverse_or_zero(inv_std) * square_root(count));
    store(dweight + c, gradients.dy_centered * inv_std);
    store(dbias + c, gradients.dy);
  });
}

/// The same after a forward in place: the sums are about the bias of y less its activation, of which x - mean is a
/// multiple, by weight * inv_std of the forward (arXiv 1712.02616). `weight` is the present one.
template <class A, class Param>
void set_gradient_coefficients_from_output(Index channels, const ChannelStatistics<A>& s, const Affine<A>& forward,
                                           const GradientSumArrays<A>& sums, Index n, bool own_means,
                                           const Param* weight, const GradientArrays<A>& result, A* dweight, A* dbias) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    const V zero = V::all(A(0)), count = V::all(number<A>(n)), inv_std = load<V>(s.inv_std() + c);
    const V forward_weight = load<V>(forward.weight + c);
    const V dy = load<V>(sums.dy() + c);
    V centered = load<V>(sums.products() + c);
    if (own_means) {
      const V off = load<V>(sums.x() + c) / count;
      centered = sub_mul(centered, sub_mul(dy, load<V>(sums.dy_pivot() + c), count), off);
    }
    store(result.mean_dy() + c, dy / count);
    store(result.mean() + c, load<V>(forward.bias + c));
    store(result.mean_residual() + c, zero);
    store(result.projection() + c, centered / count / forward_weight / forward_weight);
    store(result.scale() + c, load_or<V>(weight, c, 1) * inv_std);
    store(result.max_deviation() + c, zero);
    store(dweight + c, centered / forward_weight);
    store(dbias + c, dy);
  });
}

/// The gradient through statistics that are constants, dx = dy * weight * inv_std, as a normalization of dy.
template <class A, class Param>
void set_constant_gradient_coefficients(Index channels, const ChannelStatistics<A>& s, const Param* weight,
                                        const NormalizeArrays<A>& result) {
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    const V zero = V::all(A(0));
    store(result.mean() + c, zero);
    store(result.mean_residual() + c, zero);
    store(result.scale() + c, load_or<V>(weight, c, 1) * load<V>(s.inv_std() + c));
    store(result.shift() + c, zero);
  });
}

/// result = (1 - momentum) * running + momentum * batch(type, c), the batch's pack from channel c on. A momentum of 0
/// keeps every bit of `running`, and one of 1 takes the batch's values, whatever the other side is: 0 times a NaN or an
/// infinity would be NaN.
template <class A, class Param, class Batch>
void set_moving_average(Index channels, const Param* running, const A& momentum, const Batch& batch, Param* result) {
  if (momentum == A(0)) {
    std::copy_n(running, channels, result);
    return;
  }
  if (momentum == A(1)) {
    for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) { store(result + c, batch(type, c)); });
    return;
  }
  for_each_pack<AlgebraPack<A>>(channels, [&](auto type, Index c) {
    using V = typename decltype(type)::Pack;
    store(result + c, mul_add(V::all(momentum), batch(type, c), V::all(A(1) - momentum) * load<V>(running + c)));
  });
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ALGEBRA_BATCH_NORM_HPP
