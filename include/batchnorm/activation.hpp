// What may follow a normalization in the same pass over memory.

#ifndef BATCHNORM_ACTIVATION_HPP
#define BATCHNORM_ACTIVATION_HPP

#include <cmath>

#include "batchnorm/detail/frozen/ranges.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// A piecewise linear activation: v where v > 0, and slope * v below.
///
///     Activation::none               v itself; the slope is 1
///     Activation::relu               max(v, 0); the slope is 0. A NaN stays one, and -0 becomes +0
///     Activation::leaky_relu(slope)  for any finite slope of at least 0
///
/// Where v rounds to 0 in the tensor's scalar type, its gradient has the slope too: what decides is the stored y > 0.
class Activation {
 public:
  /// The activations that have no parameter.
  enum Named { none, relu };

  /// One of those, at first none. Implicit, so that `activation(Activation::relu)` works.
  Activation(Named named = none) noexcept : slope_(named == relu ? 0 : 1) {}  // NOLINT(google-explicit-constructor)

  /// v where v > 0, else slope * v (Maas, Hannun and Ng 2013). Throws std::invalid_argument unless the slope is finite
  /// and at least 0.
  static Activation leaky_relu(double slope) {
    detail::frozen::require(std::isfinite(slope) && slope >= 0, "expected a finite slope of at least 0, got ", slope);
    Activation result;
    result.slope_ = slope;
    return result;
  }

  /// The factor of what is not above 0.
  double slope() const noexcept { return slope_; }

  /// Whether two activations are the same function.
  friend bool operator==(const Activation& a, const Activation& b) noexcept { return !(a != b); }
  /// Whether they are not.
  friend bool operator!=(const Activation& a, const Activation& b) noexcept {
    return a.slope_ < b.slope_ || a.slope_ > b.slope_;
  }

 private:
  double slope_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_ACTIVATION_HPP
