// The loop of the primitives that write a tensor: one run of it, pack by pack.

#ifndef BATCHNORM_DETAIL_KERNELS_TRANSFORM_HPP
#define BATCHNORM_DETAIL_KERNELS_TRANSFORM_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/simd/stream.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// How many elements past a multiple of a pack's size an address lies.
template <class P, class T>
Index packs_phase(const T* y) {
  return static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % (P::size * sizeof(T)) / sizeof(T));
}

/// One coefficient for each column, laid out from `phase` on, so that a pack is loaded from a multiple of its size
/// wherever it is stored to one.
template <class P>
struct ColumnArray {
  using C = typename P::Scalar;
  // Whole packs are set of each channel, the last one too.
  alignas(is_register<P> ? sizeof(P) : alignof(P)) C values[max_columns + 3 * P::size + least_row];

  /// Those of a pack of columns.
  template <class Q>
  BATCHNORM_ALWAYS_INLINE Q at(Index place) const {
    return load<Q>(values + place);
  }

  /// Sets the columns from the coefficients of the tile's channels, and as many more as a pack can go past the last if
  /// that is followed by the first again.
  BATCHNORM_ALWAYS_INLINE void set(const Columns& columns, const Runs& runs, Index phase, const C* of_channel) {
    C* const first = values + phase;
    const Index end = runs.period + (runs.wraps() ? P::size - 1 : 0), step = columns.step_width;
    for (Index from = 0; from < end; from += step) {
      if (columns.inner == 1) {
        for_each_pack<P>((std::min)(step, end - from), [&](auto type, Index c) BATCHNORM_INLINE_LAMBDA {
          store(first + from + c, load<typename decltype(type)::Pack>(of_channel + c));
        });
        continue;
      }
      const C* value = of_channel;
      for (Index j = from; j < (std::min)(end, from + step); j += columns.inner, ++value) {
        for (Index k = j; k < j + columns.inner; k += P::size) store(first + k, P::all(*value));
      }
    }
  }
};

/// The same for wide packs, with those at even places and those at odd ones apart.
template <class P>
struct ColumnArray<Wide<P>> {
  using C = typename P::Scalar;
  static constexpr Index size = max_columns / 2 + 2 * P::size + least_row;
  alignas(sizeof(P)) C values[2 * size];

  BATCHNORM_ALWAYS_INLINE C* place_of(Index place) { return values + (place & 1) * size + (place >> 1); }

  template <class Q>
  BATCHNORM_ALWAYS_INLINE Q at(Index place) const {
    const Index odd = place & 1, half = place >> 1, other = -odd & size;
    if constexpr (Q::size == 1) {
      return load<Q>(values + half + other);
    } else {
      return {load<decltype(Q::a)>(values + half + other), load<decltype(Q::b)>(values + half + odd + (size - other))};
    }
  }

  BATCHNORM_ALWAYS_INLINE void set(const Columns& columns, const Runs& runs, Index phase, const C* of_channel) {
    const Index end = phase + runs.period + (runs.wraps() ? 2 * P::size - 1 : 0), step = columns.step_width;
    for (Index from = phase; from < end; from += step) {
      const Index n = (std::min)(step, end - from);
      if (columns.inner == 1) {
        C *const first = place_of(from), *const second = place_of(from + 1);
        const Index pairs = n >> 1;
        for (Index k = 0; k < pairs; ++k) {
          first[k] = of_channel[2 * k];
          second[k] = of_channel[2 * k + 1];
        }
        if (n & 1) first[pairs] = of_channel[n - 1];
        continue;
      }
      const C* value = of_channel;
      for (Index place = from; place < from + n; place += columns.inner, ++value) {
        static_assert(2 * P::size >= least_row, "a pack must hold half of a channel's columns");
        store(place_of(place), P::all(*value));
        store(place_of(place + 1), P::all(*value));
      }
    }
  }
};

/// Stores a pack, past the cache or not.
template <class T, class P>
BATCHNORM_ALWAYS_INLINE void put(T* to, bool streamed, const P& value) {
  if (streamed) {
#if BATCHNORM_GNU && defined(__clang__)
    // Else Clang converts the pack before the branch and, of 16-bit types, stores it number by number: a tenth of the
    // speed, with other stores to the line streamed.
    asm volatile("");
#endif
    stream(to, value);
  } else {
    store(to, value);
  }
}

/// Stores a pack's first numbers, or its last, fewer than all.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE void store_part(T* to, const P& value, Index skip, Index count) {
  T all[P::size];
  store(all, value);
  for (Index i = 0; i < count; ++i) to[i] = all[skip + i];
}

/// Writes a run of whole channels, one after another, or a part of one channel: y[i] = f(i, k) for [begin, end), where
/// f gives P::size elements from i on, and k are the coefficients of each: of_channel(c) gives those of a channel, in
/// packs, and blend(a, b, count) the first of one channel and the rest of the next. A channel, `n` elements, is no
/// shorter than a pack.
///
/// f may read y itself at those elements: none is written before all that need it are read. Where y lies, whether it is
/// streamed past the cache, and how a tensor is cut into runs changes no bit of it.
template <class P, class T, class OfChannel, class F>
BATCHNORM_ALWAYS_INLINE void transform_channels(T* y, Index begin, Index n, Index channel, Index channel_end,
                                                bool streamed, const OfChannel& of_channel, const F& f) {
  constexpr Index N = P::size;
  const Index end = begin + n * (channel_end - channel);
  // Whole packs begin at an address that is a multiple of their size. What lies before and after them is part of packs
  // that overlap them.
  const Index past = packs_phase<P>(y + begin), head = past == 0 ? 0 : N - past, tail = (end - begin - head) % N;
  auto k = of_channel(channel);
  if (head != 0) store_part(y + begin, f(begin, k), 0, head);
  P last{};
  if (tail != 0) last = f(end - N, of_channel(channel_end - 1));

  Index i = begin + head;
  for (Index next = begin + n;; next += n) {
    const auto now = k;  // which nothing changes, and so stays in registers
    if (streamed) {
      for (; i + N <= next; i += N) stream(y + i, f(i, now));
    } else {
      for (; i + N <= next; i += N) store(y + i, f(i, now));
    }
    if (++channel == channel_end) break;
    const auto next_k = of_channel(channel);
    if (i < next) {
      put(y + i, streamed, f(i, blend(k, next_k, next - i)));
      i += N;
    }
    k = next_k;
  }
  if (tail != 0) store_part(y + end - tail, last, N - tail, tail);
}

/// The same for a tile, walked by rows.
template <class P, class T, class OfChannel, class F>
BATCHNORM_ALWAYS_INLINE void transform_rows(const View& view, const Tile& tile, T* y, bool streamed,
                                            const OfChannel& of_channel, const F& f) {
  const Index n = tile.inner_end - tile.inner_begin, channels = tile.channels();
  const Index run = n == view.inner ? channels : 1;  // channels that lie one after another
  for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
    for (Index c = 0; c < channels; c += run) {
      const Index begin = (o * view.channels + tile.channel_begin + c) * view.inner + tile.inner_begin;
      transform_channels<P>(y, begin, n, c, c + run, streamed, of_channel, f);
    }
  }
}

/// y[i] = f(PackType<Q>(), i, j) for the tile's elements, walked by columns, where f gives Q::size elements from i on,
/// the first in column j, Q being P, a pack of one or, where P is wide, half a P. Where `runs.wraps()`, f may count on
/// the first columns again after the last, as many as such a pack needs. As above, f may read y itself.
template <class P, class T, class F>
BATCHNORM_ALWAYS_INLINE void transform_columns(const Runs& runs, T* y, bool streamed, const F& f) {
  using All = PackType<P>;
  using One = PackType<Pack<typename P::Scalar, 1>>;
  constexpr Index N = P::size;
  const Index n = runs.n;
  for (Index begin = runs.begin, end = runs.begin + runs.count * runs.stride; begin < end; begin += runs.stride) {
    // As above; but packs that overlap cost short runs too much, and are no way to write what is streamed, whose lines
    // no ordinary store should touch again, or what is shorter than they are: single elements then, and what halves of
    // a wide pack fit in.
    const Index past = packs_phase<P>(y + begin);
    const bool overlap = n >= N && !streamed;
    const Index head = past == 0 || (overlap && n < 8 * N) ? 0 : (std::min)(n, N - past);
    const bool ragged = (n - head) % N != 0;
    P first{}, last{};
    if (overlap && head != 0) first = f(All(), begin, 0);
    if (overlap && ragged) last = f(All(), begin + n - N, (n - N) % runs.period);

    Index i = overlap ? head : 0, j = i;
    Index singles = overlap ? i : n < N ? n : head;
    const auto wrap = [&]() BATCHNORM_INLINE_LAMBDA {
      if (j >= runs.period) j -= runs.period;
    };
    const auto singly = [&](Index stop) BATCHNORM_INLINE_LAMBDA {
      for (; i < stop; ++i, ++j) {
        wrap();
        store(y + begin + i, f(One(), begin + i, j));
      }
    };
    for (;;) {
      if constexpr (is_wide<P>) {
        using Half = typename half_of<P>::type;
        const Index past_half = packs_phase<Half>(y + begin + i);
        singly((std::min)(singles, past_half == 0 ? i : i + Half::size - past_half));
        for (; i + Half::size <= singles; i += Half::size, j += Half::size) {
          wrap();
          put(y + begin + i, streamed, f(PackType<Half>(), begin + i, j));
        }
      }
      singly(singles);
      while (i + N <= n) {
        wrap();
        const Index stop = (std::min)(n - N + 1, i + (runs.period - j));  // of packs that begin in this period
        for (; i < stop; i += N, j += N) put(y + begin + i, streamed, f(All(), begin + i, j));
      }
      if (overlap || i == n) break;
      wrap();
      singles = n;
    }
    if (overlap && head != 0) store(y + begin, first);
    if (overlap && ragged) store(y + begin + n - N, last);
  }
}

/// y[i] = f(i, k) for the tile's elements, where f gives those of a pack from i on, and k are their coefficients: the
/// members of Coefficients<Q>, in their order, from arrays of one for each of the tile's channels.
template <template <class> class Coefficients, class P, class T, std::size_t... I, class F>
BATCHNORM_ALWAYS_INLINE void transform(const View& view, const Tile& tile, T* y, bool streamed,
                                       const typename P::Scalar* const (&arrays)[sizeof...(I)],
                                       std::index_sequence<I...>, const F& f) {
  if (by_columns(view)) {
    const Columns columns(view, tile);
    const Runs runs(columns, P::size);
    ColumnArray<P> memory[sizeof...(I)];
    const Index phase = packs_phase<P>(y + runs.begin);
    for (std::size_t k = 0; k < sizeof...(I); ++k) memory[k].set(columns, runs, phase, arrays[k]);
    transform_columns<P>(runs, y, streamed, [&](auto type, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      return f(i, Coefficients<Q>{memory[I].template at<Q>(phase + j)...});
    });
  } else {
    const auto by_rows = [&](auto type) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      const auto of_channel = [&](Index c) BATCHNORM_INLINE_LAMBDA { return Coefficients<Q>{Q::all(arrays[I][c])...}; };
      transform_rows<Q>(view, tile, y, streamed, of_channel, f);
    };
    if constexpr (is_wide<P>) {
      // Rows of few packs are written faster in narrower ones, of which fewer are partly of the next row.
      if (view.inner < 4 * P::size) {
        by_rows(PackType<decltype(P::a)>());
      } else {
        by_rows(PackType<P>());
      }
    } else {
      by_rows(PackType<P>());
    }
  }
  if (streamed) finish_streaming();
}

template <template <class> class Coefficients, class P, class T, std::size_t K, class F>
BATCHNORM_ALWAYS_INLINE void transform(const View& view, const Tile& tile, T* y, bool streamed,
                                       const typename P::Scalar* const (&arrays)[K], const F& f) {
  transform<Coefficients, P>(view, tile, y, streamed, arrays, std::make_index_sequence<K>(), f);
}

/// y[i] = f(i, c) for each of the tile's elements, one by one, c being its channel counted from the tile's first.
template <class T, class F>
BATCHNORM_ALWAYS_INLINE void transform_singly(const View& view, const Tile& tile, T* y, const F& f) {
  for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
    for (Index c = 0; c < tile.channels(); ++c) {
      const Index row = (o * view.channels + tile.channel_begin + c) * view.inner;
      for (Index i = row + tile.inner_begin; i < row + tile.inner_end; ++i) store(y + i, f(i, c));
    }
  }
}

/// Coefficients for tensors of T: as they are, but a NaN without digits that a 16-bit T has not.
template <class T, class C>
BATCHNORM_ALWAYS_INLINE void drop_payloads(C* coefficients, Index n) {
  if constexpr (is_16_bit<T>) {
    for (Index i = 0; i < n; ++i) {
      if (coefficients[i] != coefficients[i]) coefficients[i] = std::numeric_limits<C>::quiet_NaN();
    }
  }
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

/// Whether each of n numbers is, as a float, finite and not 0, with all its digits. Of their bits alone, which takes no
/// comparisons of numbers.
BATCHNORM_ALWAYS_INLINE bool all_normal_floats(const double* values, Index n) {
  const auto bits = [](double value) {  // without the sign
    std::uint64_t result;
    std::memcpy(&result, &value, sizeof(result));
    return result << 1;
  };
  const std::uint64_t least = bits((std::numeric_limits<float>::min)()),
                      span = bits((std::numeric_limits<float>::max)()) - least;
  bool all = true;
  for (Index i = 0; i < n; ++i) all &= bits(values[i]) - least <= span;
  return all;
}

/// Makes two of each of n factors that needs it, which are rounded in `main`; returns whether any did.
template <class C, class A>
BATCHNORM_ALWAYS_INLINE bool split_factors(const A* factors, Index n, C* main, C* extra) {
  if constexpr (!std::is_same_v<C, A>) {
    if (all_normal_floats(factors, n)) return false;
    constexpr A least = (std::numeric_limits<C>::min)(), most = (std::numeric_limits<C>::max)();
    bool any_extra = false;
    for (Index c = 0; c < n; ++c) {
      const A size = std::abs(factors[c]);
      extra[c] = C(1);
      if ((size >= least && size <= most) || !(size > A(0)) || !(size <= (std::numeric_limits<A>::max)())) continue;
      const Factors<C> two = two_factors<C>(factors[c]);
      main[c] = two.main;
      extra[c] = two.extra;
      any_extra = true;
    }
    return any_extra;
  }
  return false;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_TRANSFORM_HPP
