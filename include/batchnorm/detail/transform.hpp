// The loop of the primitives that write a tensor: one row, element by element.

#ifndef BATCHNORM_DETAIL_TRANSFORM_HPP
#define BATCHNORM_DETAIL_TRANSFORM_HPP

#include <algorithm>
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

/// The whole packs of [i, n), of which the first is column j: moves i past them and returns the column after them.
template <class P, class T, class F, class Store>
BATCHNORM_ALWAYS_INLINE Index transform_packs(T* y, Index& i, Index j, Index n, Index period, const F& f,
                                              const Store& put) {
  constexpr Index N = P::size;
  using Type = PackType<P>;
  for (;;) {
    const Index end = std::min(n, i + (period - j));  // of packs that begin in this period
    for (; i + 4 * N <= end; i += 4 * N, j += 4 * N) {
      const P a = f(Type(), i, j), b = f(Type(), i + N, j + N);
      const P c = f(Type(), i + 2 * N, j + 2 * N), d = f(Type(), i + 3 * N, j + 3 * N);
      put(y + i, a);
      put(y + i + N, b);
      put(y + i + 2 * N, c);
      put(y + i + 3 * N, d);
    }
    for (; i < end && i + N <= n; i += N, j += N) put(y + i, f(Type(), i, j));
    if (i + N > n) return j;
    j -= period;
  }
}

/// y[i] = f(i, i % period) for i in [0, n). f(PackType<P>(), i, j) gives elements i ... i + P::size - 1, which are
/// columns j ... j + P::size - 1, as a pack P of any size up to `P::size`; columns go on past the period as they began.
/// f may read y itself at those elements: none is written before all that need it are read. Where y lies, whether it is
/// streamed past the cache and how its rows are cut changes no bit of it.
template <class P, class T, class F>
BATCHNORM_ALWAYS_INLINE void transform(T* y, Index n, Index period, bool streamed, const F& f) {
  using One = Pack<typename P::Scalar, 1>;
  constexpr Index N = P::size;
  if (n < N) {
    for (Index i = 0; i < n; ++i) store(y + i, f(PackType<One>(), i, i));
    return;
  }
  // Up to the first address that is a multiple of the pack's size.
  const auto past = static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % sizeof(P) / sizeof(T));
  if (streamed) {
    Index i = past == 0 ? 0 : std::min(N - past, n);
    for (Index head = 0; head < i; ++head) store(y + head, f(PackType<One>(), head, head));
    Index j = transform_packs<P>(y, i, i, n, period, f,
                                 [](T* to, const P& value) BATCHNORM_INLINE_LAMBDA { stream(to, value); });
    for (; i < n; ++i, ++j) store(y + i, f(PackType<One>(), i, j));
    return;
  }
  // The first and last vectors overlap their neighbours, so they are computed before those are written.
  Index i = past == 0 || n < 8 * N ? 0 : N - past;
  const bool ragged = (n - i) % N != 0;
  P first, last;
  if (i != 0) first = f(PackType<P>(), 0, 0);
  const Index head = i;
  if (ragged) last = f(PackType<P>(), n - N, (n - N) % period);
  transform_packs<P>(y, i, i, n, period, f, [](T* to, const P& value) BATCHNORM_INLINE_LAMBDA { store(to, value); });
  if (head != 0) store(y, first);
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
