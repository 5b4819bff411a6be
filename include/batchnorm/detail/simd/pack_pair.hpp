// Two packs as one: kernels that keep two of everything in flight read like kernels that keep one.

#ifndef BATCHNORM_DETAIL_SIMD_PACK_PAIR_HPP
#define BATCHNORM_DETAIL_SIMD_PACK_PAIR_HPP

#include "batchnorm/detail/simd/pack.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// 2 P::size numbers in two packs.
///
/// Where they are written to memory, a holds the numbers at even places and b those at odd places:
///
///     memory   x0 x1 x2 x3 x4 x5 x6 x7
///     a        x0    x2    x4    x6
///     b           x1    x3    x5    x7
///
/// So two bfloat16 lie in a 32-bit word, which makes two floats at two operations. (Sums, which ask for no order, fill
/// a and b as they like: load_pair.)
template <class P>
struct PackPair {
  using Scalar = typename P::Scalar;
  using One = typename P::One;
  static constexpr int size = 2 * P::size;
  static constexpr bool fused = P::fused;
  P a, b;

  static BATCHNORM_ALWAYS_INLINE PackPair all(const Scalar& value) {
    const P pack = P::all(value);
    return {pack, pack};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair operator+(const PackPair& x, const PackPair& y) {
    return {x.a + y.a, x.b + y.b};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair operator-(const PackPair& x, const PackPair& y) {
    return {x.a - y.a, x.b - y.b};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair operator*(const PackPair& x, const PackPair& y) {
    return {x.a * y.a, x.b * y.b};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair mul_add(const PackPair& x, const PackPair& y, const PackPair& z) {
    return {mul_add(x.a, y.a, z.a), mul_add(x.b, y.b, z.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair sub_mul(const PackPair& z, const PackPair& x, const PackPair& y) {
    return {sub_mul(z.a, x.a, y.a), sub_mul(z.b, x.b, y.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE PackPair blend(const PackPair& x, const PackPair& y, Index count) {
    return {blend(x.a, y.a, (count + 1) / 2), blend(x.b, y.b, count / 2)};
  }
  friend BATCHNORM_ALWAYS_INLINE Scalar sum(const PackPair& x) { return sum(x.a + x.b); }
};

template <class P>
inline constexpr bool is_pair = false;
template <class P>
inline constexpr bool is_pair<PackPair<P>> = true;

template <class P>
inline constexpr bool is_register<PackPair<P>> = is_register<P>;

/// A PackPair of half as many numbers.
template <class P>
struct half_of;
template <class C, int N, bool Fused>
struct half_of<PackPair<Pack<C, N, Fused>>> {
  using type = PackPair<Pack<C, N / 2, Fused>>;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_PACK_PAIR_HPP
