// Two packs as one number: kernels that keep two of everything in flight read like kernels that keep one.

#ifndef BATCHNORM_DETAIL_WIDE_HPP
#define BATCHNORM_DETAIL_WIDE_HPP

#include "batchnorm/detail/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class P>
struct Wide {
  static constexpr int size = 2 * P::size;
  P a, b;

  static BATCHNORM_ALWAYS_INLINE Wide all(const typename P::Scalar& value) {
    const P pack = P::all(value);
    return {pack, pack};
  }
  friend BATCHNORM_ALWAYS_INLINE Wide operator+(const Wide& x, const Wide& y) { return {x.a + y.a, x.b + y.b}; }
  friend BATCHNORM_ALWAYS_INLINE Wide operator-(const Wide& x, const Wide& y) { return {x.a - y.a, x.b - y.b}; }
  friend BATCHNORM_ALWAYS_INLINE Wide mul_add(const Wide& x, const Wide& y, const Wide& z) {
    return {mul_add(x.a, y.a, z.a), mul_add(x.b, y.b, z.b)};
  }
  friend BATCHNORM_ALWAYS_INLINE typename P::Scalar sum(const Wide& x) { return sum(x.a + x.b); }
};

template <class P, class T>
BATCHNORM_ALWAYS_INLINE Wide<P> load_wide(const T* from) {
#if BATCHNORM_GNU
  if constexpr (is_register<P> && std::is_same_v<T, Eigen::bfloat16> && std::is_same_v<typename P::Scalar, double>) {
    using V = Vectors<P::size>;
    typename V::Floats evens, odds;
    V::evens_and_odds(from, evens, odds);
    return {{V::doubles(evens)}, {V::doubles(odds)}};
  }
#endif
  return {load<P>(from), load<P>(from + P::size)};
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_WIDE_HPP
