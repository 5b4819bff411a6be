// The loop of the primitives that write a tensor: one row, element by element.

#ifndef BATCHNORM_DETAIL_TRANSFORM_HPP
#define BATCHNORM_DETAIL_TRANSFORM_HPP

#include <cmath>
#include <limits>

#include "batchnorm/detail/stream.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Tells a function which pack to work in.
template <class P>
struct PackType {
  using Pack = P;
};

/// y[i] = f(i) for i in [0, n). f(PackType<P>(), i) gives elements i ... i + P::size - 1 as a pack P, or as a pack of
/// one. It may read y itself at those elements: none is written before all that need it are read. Whether y is streamed
/// past the cache, where it lies, and how its rows are cut changes no bit of it.
template <class P, class T, class F>
BATCHNORM_ALWAYS_INLINE void transform(T* y, Index n, bool streamed, const F& f) {
  constexpr Index N = P::size;
  if (n < N) {
    for (Index i = 0; i < n; ++i) store(y + i, f(PackType<Pack<typename P::Scalar, 1>>(), i));
    return;
  }
  // The last vector overlaps the one before it, so it is computed before that is written.
  const bool ragged = n % N != 0;
  P last;
  if (ragged) last = f(PackType<P>(), n - N);
  Index i = 0;
  if (streamed) {
    const Index past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % sizeof(P) / sizeof(T));
    if (past != 0) {
      store(y, f(PackType<P>(), 0));
      i = N - past;
    }
    for (; i + 4 * N <= n; i += 4 * N) {
      const P a = f(PackType<P>(), i), b = f(PackType<P>(), i + N), c = f(PackType<P>(), i + 2 * N),
              d = f(PackType<P>(), i + 3 * N);
      stream(y + i, a);
      stream(y + i + N, b);
      stream(y + i + 2 * N, c);
      stream(y + i + 3 * N, d);
    }
    for (; i + N <= n; i += N) stream(y + i, f(PackType<P>(), i));
    if (i < n) store(y + n - N, f(PackType<P>(), n - N));
    return;
  }
  for (; i + 4 * N <= n; i += 4 * N) {
    const P a = f(PackType<P>(), i), b = f(PackType<P>(), i + N), c = f(PackType<P>(), i + 2 * N),
            d = f(PackType<P>(), i + 3 * N);
    store(y + i, a);
    store(y + i + N, b);
    store(y + i + 2 * N, c);
    store(y + i + 3 * N, d);
  }
  for (; i + N <= n; i += N) store(y + i, f(PackType<P>(), i));
  if (ragged) store(y + n - N, last);
}

/// A factor as the product of two. `extra` is 1 unless the factor is outside of the normal range of C, where a single C
/// would lose its digits or overflow, and multiplies first: by 1 that changes no bit, so that a row whose channels have
/// one factor may be computed with two for a neighbour's sake.
template <class C>
struct Factors {
  C main, extra;
};

template <class C, class A>
Factors<C> factors(const A& factor) {
  if constexpr (!std::is_same_v<C, A>) {
    const A size = std::abs(factor);
    if (size != 0 && (size < std::numeric_limits<C>::min() || size > std::numeric_limits<C>::max()) &&
        size <= std::numeric_limits<A>::max()) {
      int exponent;
      std::frexp(factor, &exponent);
      const A main = std::ldexp(A(1), exponent / 2);  // a power of two: exact
      return {static_cast<C>(main), static_cast<C>(factor / main)};
    }
  }
  return {static_cast<C>(factor), C(1)};
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_TRANSFORM_HPP
