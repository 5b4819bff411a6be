// y = (x - mean) * scale + shift for 16-bit x, and dx, in float but with nearly the digits of double: within 0.501
// units in the last place of the exact value, and 2^-45 of the terms that cancel in it, at half the work.
//
// Numbers of so few digits have exact differences in float, and a fused multiplication and addition rounds once, after
// all cancellation. So with d = x - pivot, and scale and shift each as the sum of two floats,
//
//     y = fma(d, scale, shift) + fma(d, scale_low, shift_low)
//
// is off by 2^-23 |y| for the roundings of both and by 2^-47 (|d * scale| + |shift|) for what the low parts lack. A
// half has 11 digits and a bfloat16 has 8.

#ifndef BATCHNORM_DETAIL_KERNELS_FLOAT_PAIRS_HPP
#define BATCHNORM_DETAIL_KERNELS_FLOAT_PAIRS_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "batchnorm/detail/simd/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Whether tensors of T are computed in pairs of floats by kernels with registers of `Bytes`: 16-bit ones, where there
/// are fused operations and wide conversions, as from AVX2 on.
template <class T, int Bytes>
inline constexpr bool uses_float_pairs = is_16_bit<T>&& BATCHNORM_X86_DISPATCH&& Bytes >= 32;

/// The pack in which 16-bit tensors of T are written by kernels with registers of `Bytes`.
template <class T, int Bytes>
using FloatPairsPack = std::conditional_t<std::is_same_v<T, Eigen::bfloat16>, PackPair<KernelPack<T, float, Bytes>>,
                                          KernelPack<T, float, Bytes>>;

/// The coefficients of some elements of y.
template <class P>
struct FloatPairs {
  static constexpr int count = 5;
  using Packed = P;
  P pivot, scale, scale_low, shift, shift_low;

  /// y of a pack of x.
  BATCHNORM_ALWAYS_INLINE P apply(const P& x) const {
    const P d = x - pivot;
    return mul_add(d, scale, shift) + mul_add(d, scale_low, shift_low);
  }

  friend BATCHNORM_ALWAYS_INLINE FloatPairs blend(const FloatPairs& a, const FloatPairs& b, Index n) {
    return {blend(a.pivot, b.pivot, n), blend(a.scale, b.scale, n), blend(a.scale_low, b.scale_low, n),
            blend(a.shift, b.shift, n), blend(a.shift_low, b.shift_low, n)};
  }
};

/// The coefficients of some elements of dx = (dy - (x - pivot) * projection + rest) * scale.
///
/// Three terms cancel here, of which any can be the largest. x - pivot is the sum of two floats (Dekker 1971). Added
/// to an anchor, a number so large that rest - d * projection changes no exponent of it, that is cut at the anchor's
/// last digit: what is above has exact differences, and what is below follows by a fused operation. So dx is off by
/// 2^-22 of itself for the roundings of what is left, and by 2^-24 of what is below, about 2^-45 of the largest that
/// rest and (x - pivot) * projection can be.
template <class P>
struct GradientFloatPairs {
  static constexpr int count = 7;
  using Packed = P;
  P pivot, projection, projection_low, anchor, anchored_rest, rest_low, scale;

  /// dx of packs of x and dy.
  BATCHNORM_ALWAYS_INLINE P apply(const P& x, const P& dy) const {
    const P d = x - pivot, d_low = x - (d + pivot);
    const P anchored = sub_mul(anchored_rest, d, projection);
    const P high = anchored - anchor, subtracted = anchored_rest - anchored;
    const P low = sub_mul(subtracted, d, projection);
    const P low_products = sub_mul(sub_mul(rest_low, d, projection_low), d_low, projection);
    return ((dy + high) + (low + low_products)) * scale;
  }

  friend BATCHNORM_ALWAYS_INLINE GradientFloatPairs blend(const GradientFloatPairs& a, const GradientFloatPairs& b,
                                                          Index n) {
    return {blend(a.pivot, b.pivot, n),
            blend(a.projection, b.projection, n),
            blend(a.projection_low, b.projection_low, n),
            blend(a.anchor, b.anchor, n),
            blend(a.anchored_rest, b.anchored_rest, n),
            blend(a.rest_low, b.rest_low, n),
            blend(a.scale, b.scale, n)};
  }
};

/// The nearest number with the digits of T, in T's normal range.
template <class T>
float rounded_to_digits(float value) {
  constexpr int dropped = std::is_same_v<T, Eigen::half> ? 13 : 16;
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits += (std::uint32_t(1) << (dropped - 1)) - 1 + (bits >> dropped & 1);
  bits = bits >> dropped << dropped;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

/// A double without the digits that a float has not: a float no larger. By its bits, since GCC 12 at -O2 takes two
/// neighbouring doubles that are made floats and doubles again for unchanged.
inline float truncated(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = bits >> 29 << 29;
  std::memcpy(&value, &bits, sizeof(bits));
  return static_cast<float>(value);
}

/// Sets the coefficients of (x - mean - mean_residual) * scale + shift for x of type T. False where floats have not the
/// range for them, or they are not finite.
template <class T, class One>
bool set_float_pairs(double mean, double mean_residual, double scale, double shift, FloatPairs<One>& result) {
  constexpr double least = 0x1p-60, most = 0x1p60, farthest = 0x1p100;
  const double size = std::abs(scale);
  const double reach = scale == 0 ? 0 : std::abs(mean) + std::abs(shift) / size;  // of the x between which y cancels
  if (!((scale == 0 || size >= least) && size <= most && std::abs(shift) <= farthest && reach <= farthest))
    return false;
  // Where x is so small beside the pivot that x - pivot is not exact, y is about what it is at 0: if that is next to
  // nothing, the pivot must be 0.
  float pivot = 0;
  if (scale != 0 && 8 * std::abs(shift - mean * scale) >= std::abs(mean * scale)) {
    // Of x's digits, for x near the mean, but no finer than what has an exact difference from x as far as it reaches.
    const auto coarse = static_cast<float>(16 * reach);
    pivot = (rounded_to_digits<T>(static_cast<float>(mean)) + coarse) - coarse;
  }
  const double rest = shift - ((mean - static_cast<double>(pivot)) + mean_residual) * scale;
  if (!(std::abs(rest) <= farthest)) return false;
  const float high = truncated(scale), shift_high = truncated(rest);
  // Of the sign of the high part, and not 0: for an infinite x neither product may undo the other.
  const double low = (scale - static_cast<double>(high)) + 0x1p-60 * scale;
  result = {{{pivot}},
            {{high}},
            {{static_cast<float>(low)}},
            {{shift_high}},
            {{static_cast<float>(rest - static_cast<double>(shift_high))}}};
  return true;
}

/// Sets the coefficients of ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale for x of type T no
/// farther than max_deviation from the mean. False as above, and where x counts but max_deviation is 0, which tells
/// nothing of it.
template <class T, class One>
bool set_float_pairs(double mean_dy, double mean, double mean_residual, double projection, double scale,
                     double max_deviation, GradientFloatPairs<One>& result) {
  constexpr double farthest = 0x1p100;
  const auto fits = [](double value, double range) {
    const double size = std::abs(value);
    return value == 0 || (size >= 1 / range && size <= range);
  };
  if (!(fits(scale, 0x1p60) && fits(projection, farthest))) return false;
  float pivot = 0;
  double largest = 0;  // of (x - pivot) * projection
  if (projection != 0) {
    if (!(max_deviation > 0 && max_deviation <= farthest)) return false;
    // Of x's digits, but no finer than 2^-23 of the max_deviation: so x - pivot has 24 digits as far as x reaches, if x
    // is the larger of the two. If the pivot is, d_low is what d lacks.
    const auto coarse = static_cast<float>(1.5 * max_deviation);
    pivot = (rounded_to_digits<T>(static_cast<float>(mean)) + coarse) - coarse;
    largest = (std::abs(mean - static_cast<double>(pivot)) + max_deviation) * std::abs(projection);
  }
  const double rest = ((mean - static_cast<double>(pivot)) + mean_residual) * projection - mean_dy;
  largest = largest + std::abs(rest);
  if (!(largest <= farthest)) return false;
  // A bfloat16 can be as large or small as a float: so can x * projection, and dy, of which that and rest are parts.
  if (std::is_same_v<T, Eigen::bfloat16> &&
      !(fits(rest, 0x1p90) && (projection == 0 || (rest != 0 && fits(max_deviation * projection, 0x1p90)))))
    return false;
  int exponent;
  std::frexp(largest, &exponent);
  const double anchor = std::ldexp(3.0, (std::max)(exponent, -100));
  const auto anchored_rest = static_cast<float>(anchor + rest);
  const float high = truncated(projection);
  result = {{{pivot}},
            {{high}},
            {{static_cast<float>(projection - static_cast<double>(high))}},
            {{static_cast<float>(anchor)}},
            {{anchored_rest}},
            {{static_cast<float>(rest - (static_cast<double>(anchored_rest) - anchor))}},
            {{static_cast<float>(scale)}}};
  return true;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_FLOAT_PAIRS_HPP
