// The loop of the primitives that write a tensor: one run of it, pack by pack.

#ifndef BATCHNORM_DETAIL_TRANSFORM_HPP
#define BATCHNORM_DETAIL_TRANSFORM_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "batchnorm/detail/columns.hpp"
#include "batchnorm/detail/stream.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Tells a function which pack to work in.
template <class P>
struct PackType {
  using Pack = P;
};

/// How many elements past a multiple of a pack's size an address lies.
template <class P, class T>
Index packs_phase(const T* y) {
  return static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % (P::size * sizeof(T)) / sizeof(T));
}

/// One coefficient for each column, laid out so that a pack is loaded from a multiple of its size wherever it is stored
/// to one.
template <class P>
struct ColumnArray {
  alignas(is_register<P> ? sizeof(P) : alignof(P)) typename P::Scalar values[max_columns + 2 * P::size];

  typename P::Scalar* from(Index phase) { return values + phase; }
};

/// Sets n columns from `first` on; those after them may be overwritten, by up to a pack.
template <class P>
BATCHNORM_ALWAYS_INLINE void fill(typename P::Scalar* first, Index n, const typename P::Scalar& value) {
  if (n == 1) {
    *first = value;
  } else {
    for (Index j = 0; j < n; j += P::size) store(first + j, P::all(value));
  }
}

template <class P, class T>
BATCHNORM_ALWAYS_INLINE void put(T* to, const P& value, bool streamed) {
  if (streamed) {
    stream(to, value);
  } else {
    store(to, value);
  }
}

/// y[i] = f(PackType<Q>(), i, i % period) for i in [0, n), where f gives Q::size elements from i on, Q being P or a
/// pack of one, and may count on so many columns more after the period as on the first ones again.
///
/// f may read y itself at those elements: none is written before all that need it are read. Where y lies, whether it is
/// streamed past the cache, and how a tensor is cut into runs changes no bit of it.
template <class P, class T, class F>
BATCHNORM_ALWAYS_INLINE void transform(T* y, Index n, Index period, bool streamed, const F& f) {
  using All = PackType<P>;
  using One = PackType<Pack<typename P::Scalar, 1>>;
  constexpr Index N = P::size;

  // Whole packs begin at an address that is a multiple of their size. What lies before and after them is done by packs
  // that overlap their neighbours, and are computed before those are written; or one by one, where y is streamed, whose
  // lines no ordinary store should touch again.
  const Index past = packs_phase<P>(y);
  const bool overlap = n >= N && !streamed;
  const Index head = past == 0 || (overlap && n < 8 * N) ? 0 : (std::min)(n, N - past);
  const bool ragged = (n - head) % N != 0;
  P first, last;
  if (overlap && head != 0) first = f(All(), 0, 0);
  if (overlap && ragged) last = f(All(), n - N, (n - N) % period);

  Index i = overlap ? head : 0, j = i;
  Index singles = overlap ? i : n < N ? n : head;
  for (;;) {
    for (; i < singles; ++i, ++j) {
      if (j == period) j = 0;
      store(y + i, f(One(), i, j));
    }
    while (i + N <= n) {
      if (j >= period) j -= period;
      const Index end = (std::min)(n, i + (period - j));  // of packs that begin in this period
      for (; i + 4 * N <= end; i += 4 * N, j += 4 * N) {
        const P a = f(All(), i, j), b = f(All(), i + N, j + N);
        const P c = f(All(), i + 2 * N, j + 2 * N), d = f(All(), i + 3 * N, j + 3 * N);
        put(y + i, a, streamed);
        put(y + i + N, b, streamed);
        put(y + i + 2 * N, c, streamed);
        put(y + i + 3 * N, d, streamed);
      }
      for (; i < end && i + N <= n; i += N, j += N) put(y + i, f(All(), i, j), streamed);
    }
    if (overlap || i == n) break;
    if (j >= period) j -= period;
    singles = n;
  }
  if (overlap && head != 0) store(y, first);
  if (overlap && ragged) store(y + n - N, last);
}

/// A coefficient for tensors of T: as it is, but NaN without digits that a 16-bit T has not.
template <class T, class C>
BATCHNORM_ALWAYS_INLINE C coefficient(const C& value) {
  if constexpr (is_16_bit<T>) {
    if (value != value) return std::numeric_limits<C>::quiet_NaN();
  }
  return value;
}

/// A factor as the product of two. `extra` is 1 unless the factor is outside of the normal range of C, where a single C
/// would lose its digits or overflow; it multiplies first, where a 1 changes no bit.
template <class C>
struct Factors {
  C main, extra;
};

template <class C, class A>
BATCHNORM_NOINLINE Factors<C> two_factors(const A& factor) {
  int exponent;
  std::frexp(factor, &exponent);
  const A main = std::ldexp(A(1), exponent / 2);  // a power of two: exact
  return {static_cast<C>(main), static_cast<C>(factor / main)};
}

template <class C, class A>
BATCHNORM_ALWAYS_INLINE Factors<C> factors(const A& factor) {
  if constexpr (!std::is_same_v<C, A>) {
    constexpr A least = (std::numeric_limits<C>::min)(), most = (std::numeric_limits<C>::max)();
    const A size = factor < A(0) ? -factor : factor;
    const bool normal = (size >= least && size <= most) || size == A(0);
    if (!normal && size <= (std::numeric_limits<A>::max)()) return two_factors<C>(factor);
  }
  return {static_cast<C>(factor), C(1)};
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_TRANSFORM_HPP
