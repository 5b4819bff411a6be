// From statistics and parameters to the coefficients that the loops compute with.

#ifndef BATCHNORM_DETAIL_FROZEN_COEFFICIENTS_HPP
#define BATCHNORM_DETAIL_FROZEN_COEFFICIENTS_HPP

#include <cmath>
#include <limits>

#include "batchnorm/detail/frozen/ranges.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
namespace frozen {

/// The coefficients of a channel: y = (x - mean) * scale + shift.
template <class A>
struct Normalization {
  A mean, scale, shift;
};

/// 1 / sqrt(variance + epsilon), and 0 where that sum is 0.
template <class A>
A inverse_std(const A& variance, double epsilon) {
  using std::sqrt;
  const A sum = variance + A(epsilon);
  return sum == A(0) ? A(0) : A(A(1) / sqrt(sum));
}

/// Coefficients in the type of the data, and whether data of that type can be computed with by them.
template <class T>
struct Rounded {
  Normalization<T> coefficients;
  bool in_range;
};

template <class T>
Rounded<T> rounded_to(const Normalization<T>& exact, const T&) {
  return {exact, true};
}

/// What rounding takes from the mean goes into the shift. Floats are as good as doubles where the scale has all its
/// digits, or the weight itself has not, and where no sum with a float can overflow but one that is out of range
/// anyway: for terms below half of the last digit of the largest float. Infinities and NaN are as good in floats.
template <class T, std::enable_if_t<std::is_same<T, float>::value, int> = 0>
Rounded<T> rounded_to(const Normalization<double>& exact, const double& weight) {
  constexpr double largest_term = 1.2676506002282294e30;  // 2 to the 100
  constexpr auto least = static_cast<double>((std::numeric_limits<float>::min)());
  constexpr auto largest = static_cast<double>((std::numeric_limits<float>::max)());
  constexpr double largest_double = (std::numeric_limits<double>::max)();
  volatile float mean = static_cast<float>(exact.mean);  // volatile: rounded for certain
  const double rest = exact.mean - static_cast<double>(mean);
  // An infinite mean leaves no rest, inf - inf being NaN.
  const double shift = std::abs(exact.mean) <= largest_double ? exact.shift - rest * exact.scale : exact.shift;
  const double size = std::abs(exact.scale);
  const auto term_fits = [=](double term) {
    return !(std::abs(term) >= largest_term && std::abs(term) <= largest_double);
  };
  const bool scale_fits =
      !(size <= largest_double) || (size <= largest && (size >= least || size == 0 || std::abs(weight) < least));
  return {{mean, static_cast<float>(exact.scale), static_cast<float>(shift)},
          scale_fits && term_fits(exact.mean) && term_fits(shift)};
}

/// The 16-bit types are computed with in double, so that their results are the exact ones, rounded.
template <class T, std::enable_if_t<is_16_bit<T>::value, int> = 0>
Rounded<T> rounded_to(const Normalization<double>&, const double&) {
  return {{T(0), T(0), T(0)}, false};
}

}  // namespace frozen
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FROZEN_COEFFICIENTS_HPP
