// Two packs as one number: kernels that keep two of everything in flight read like kernels that keep one.

#ifndef BATCHNORM_DETAIL_SIMD_WIDE_HPP
#define BATCHNORM_DETAIL_SIMD_WIDE_HPP

#include "batchnorm/detail/simd/pack.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Of the numbers of a Wide, those at even places are in a, those at odd places in b: as two bfloat16 lie in a word,
/// which makes two floats at two operations. (Sums, which ask for no order, fill a and b as they like: load_wide.)
template <class P>
struct Wide {
  using Scalar = typename P::Scalar;
  static constexpr int size = 2 * P::size;
  P a, b;

  static BATCHNORM_ALWAYS_INLINE Wide all(const Scalar& value) {
    const P pack = P::all(value);
    return {pack, pack};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide operator+(const Wide& x, const Wide& y) { return {x.a + y.a, x.b + y.b}; }
  friend BATCHNORM_ALWAYS_INLINE Wide operator-(const Wide& x, const Wide& y) { return {x.a - y.a, x.b - y.b}; }
  friend BATCHNORM_ALWAYS_INLINE Wide operator*(const Wide& x, const Wide& y) { return {x.a * y.a, x.b * y.b}; }
  friend BATCHNORM_ALWAYS_INLINE Wide add_product(const Wide& sum, const Wide& x, const Wide& y) {
    return {add_product(sum.a, x.a, y.a), add_product(sum.b, x.b, y.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide fused_mul_add(const Wide& x, const Wide& y, const Wide& z) {
    return {fused_mul_add(x.a, y.a, z.a), fused_mul_add(x.b, y.b, z.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide fused_sub_mul(const Wide& z, const Wide& x, const Wide& y) {
    return {fused_sub_mul(z.a, x.a, y.a), fused_sub_mul(z.b, x.b, y.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide blend(const Wide& x, const Wide& y, Index count) {
    return {blend(x.a, y.a, (count + 1) / 2), blend(x.b, y.b, count / 2)};
  }
  friend BATCHNORM_ALWAYS_INLINE Scalar sum(const Wide& x) { return sum(x.a + x.b); }
};

template <class P>
inline constexpr bool is_wide = false;
template <class P>
inline constexpr bool is_wide<Wide<P>> = true;

template <class P>
inline constexpr bool is_register<Wide<P>> = is_register<P>;

/// A Wide of half as many numbers.
template <class P>
struct half_of;
template <class C, int N>
struct half_of<Wide<Pack<C, N>>> {
  using type = Wide<Pack<C, N / 2>>;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_WIDE_HPP
