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

}  // namespace detail

/// `forward(x, residual(r))`, `infer(x, residual(r))`: y = activation(bn(x) + r), for an r of x's scalar, shape and
/// layout, which may be y.
template <class R>
detail::Residual<R> residual(const R& r) {
  return {r};
}

/// `backward(x, dy, output(y))`: the y of the forward, which tells where its activation was above 0. Needed where the
/// forward had a residual and the layer has an activation.
template <class Y>
detail::Output<Y> output(const Y& y) {
  return {y};
}

/// `backward(x, dy, dx, output(y), residual_grad(dr))`: where the gradient with respect to the residual goes, which may
/// be dy.
template <class R>
detail::ResidualGrad<R> residual_grad(R&& dr) {
  return {std::forward<R>(dr)};
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_TAGS_HPP
