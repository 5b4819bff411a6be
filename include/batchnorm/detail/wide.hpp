// Four packs as one number: kernels that keep four of everything in flight read like kernels that keep one.

#ifndef BATCHNORM_DETAIL_WIDE_HPP
#define BATCHNORM_DETAIL_WIDE_HPP

#include "batchnorm/detail/simd.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class P>
struct Wide {
  P a, b, c, d;

  static BATCHNORM_ALWAYS_INLINE Wide all(const typename P::Scalar& value) {
    const P pack = P::all(value);
    return {pack, pack, pack, pack};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide operator+(const Wide& x, const Wide& y) {
    return {x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide operator-(const Wide& x, const Wide& y) {
    return {x.a - y.a, x.b - y.b, x.c - y.c, x.d - y.d};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide mul_add(const Wide& x, const Wide& y, const Wide& z) {
    return {mul_add(x.a, y.a, z.a), mul_add(x.b, y.b, z.b), mul_add(x.c, y.c, z.c), mul_add(x.d, y.d, z.d)};
  }
};

/// The sum of the four.
template <class P>
BATCHNORM_ALWAYS_INLINE P fold(const Wide<P>& x) {
  return (x.a + x.b) + (x.c + x.d);
}

template <class P, class T>
BATCHNORM_ALWAYS_INLINE Wide<P> load_wide(const T* from) {
  return {load<P>(from), load<P>(from + P::size), load<P>(from + 2 * P::size), load<P>(from + 3 * P::size)};
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_WIDE_HPP
