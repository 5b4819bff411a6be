// Extras of a call: trailing arguments, in any order, that say by their name what they are.

#ifndef BATCHNORM_TAGS_HPP
#define BATCHNORM_TAGS_HPP

#include <utility>

#include "batchnorm/detail/interface/config.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class R>
struct Residual {
  const R& value;
};
template <class Y>
struct Output {
  const Y& value;
};
template <class R>
struct ResidualGrad {
  using Type = R;  // as it was deduced for a forwarding reference
  R&& value;
};
template <class M>
struct Mask {
  const M& value;
};
template <class W>
struct SampleWeight {
  const W& value;
};
template <class W, class B>
struct AffineOfCall {
  const W& weight;
  const B& bias;
};
template <class W, class B>
struct AffineGrad {
  using Weight = W;  // as they were deduced for forwarding references
  using Bias = B;
  W&& weight;
  B&& bias;
};

}  // namespace detail

/// `forward(x, residual(r))`, `infer(x, residual(r))`: y = activation(bn(x) + r), for an r of x's scalar, shape and
/// layout, which may be y.
template <class R>
detail::Residual<R> residual(const R& r) noexcept {
  return {r};
}

/// `backward(x, dy, output(y))`: the y of the forward, which tells where its activation was above 0. Needed where the
/// forward had a residual and the layer has an activation.
template <class Y>
detail::Output<Y> output(const Y& y) noexcept {
  return {y};
}

/// `backward(x, dy, dx, output(y), residual_grad(dr))`: where the gradient with respect to the residual goes, which may
/// be dy.
template <class R>
detail::ResidualGrad<R> residual_grad(R&& dr) noexcept {
  return {std::forward<R>(dr)};
}

/// `forward(x, mask(m))`, `infer(x, mask(m))`, `backward(x, dy, mask(m))`: what m has 0 for takes no part in statistics
/// or gradients, whatever x holds there, and y and dx are 0 there. m has a bool, or a number that is 0 or 1, for each
/// sample, or for each position: a tensor of x's shape without the channel axis, in x's layout.
template <class M>
detail::Mask<M> mask(const M& m) noexcept {
  return {m};
}

/// `forward(x, sample_weight(w))`, `backward(x, dy, sample_weight(w))`: statistics in which each sample, or each
/// position, counts w times, w being finite and at least 0. y is normalized everywhere. w is shaped as a mask is.
template <class W>
detail::SampleWeight<W> sample_weight(const W& w) noexcept {
  return {w};
}

/// `forward(x, affine(weight, bias))`, `infer(x, affine(weight, bias))`, `backward(x, dy, affine(weight, bias))`: the
/// scale and shift of this call in place of the layer's, each [channels] or [samples, channels] (conditional batch
/// normalization), of the layer's Param.
template <class W, class B>
detail::AffineOfCall<W, B> affine(const W& weight, const B& bias) noexcept {
  return {weight, bias};
}

/// `backward(x, dy, affine(weight, bias), affine_grad(dweight, dbias))`: where the gradients with respect to these go,
/// each of its parameter's shape. They are written, not added to.
template <class W, class B>
detail::AffineGrad<W, B> affine_grad(W&& dweight, B&& dbias) noexcept {
  return {std::forward<W>(dweight), std::forward<B>(dbias)};
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_TAGS_HPP
