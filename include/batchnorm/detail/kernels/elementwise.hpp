// The loop of the two primitives that write a tensor: a formula applied to every element, pack by pack.

#ifndef BATCHNORM_DETAIL_KERNELS_ELEMENTWISE_HPP
#define BATCHNORM_DETAIL_KERNELS_ELEMENTWISE_HPP

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "batchnorm/detail/kernels/columns.hpp"
#include "batchnorm/detail/simd/stream.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// How many elements past a multiple of a pack's size an address lies.
template <class P, class T>
Index misalignment(const T* y) {
  return static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % (P::size * sizeof(T)) / sizeof(T));
}

/// One coefficient of each of up to Most columns, of tiles that are walked in packs of P, or of each channel, of tiles
/// that are walked by rows.
///
/// The columns are laid out from `start` on, the misalignment of what is written, so that a pack of coefficients is
/// loaded from a multiple of its size wherever its elements are stored to one:
///
///     y        |  .  .  y0 y1 | y2 y3 y4 y5 | ...      packs of four; y begins two past a multiple of four
///     values   |  .  .  k0 k1 | k2 k3 k4 k5 | ...      start = 2
template <class P, Index Most>
class CoefficientArray {
 public:
  using C = typename P::Scalar;

  BATCHNORM_ALWAYS_INLINE const C& of_channel(Index c) const { return values_[c]; }

  /// Sets what is for the channels from the c-th on.
  template <class V>
  BATCHNORM_ALWAYS_INLINE void set(Index start, Index c, const V& coefficients) {
    store(values_ + start + c, coefficients);
  }

  /// Makes columns of channels: those of one outer step, repeated until a period is full, and as many more as a pack
  /// can go past its end.
  BATCHNORM_ALWAYS_INLINE void spread(const Columns& columns, const Segments& segments, Index start) {
    C* const first = values_ + start;
    const Index inner = columns.inner, end = segments.period + (segments.wraps() ? P::size - 1 : 0);
    if (inner > 1) {
      C of_channels[static_cast<std::size_t>(Most / 2)];
      std::copy_n(first, columns.channels, of_channels);
      for (Index c = 0; c < columns.channels; ++c) {
        // Whole packs: what is beyond the channel is overwritten by the next one's.
        for (Index i = 0; i < inner; i += P::size) store(first + c * inner + i, P::all(of_channels[c]));
      }
    }
    for (Index done = columns.channels * inner; done < end; done *= 2) {
      std::copy_n(first, (std::min)(done, end - done), first + done);
    }
  }

  /// Those of a pack of columns.
  template <class Q>
  BATCHNORM_ALWAYS_INLINE Q at(Index place) const {
    return load<Q>(values_ + place);
  }

 private:
  // What lies before the first column, what a pack goes past the last, and what whole packs of a channel do.
  alignas(is_register<P> ? sizeof(P) : alignof(P)) C values_[Most + 3 * P::size + least_row];
};

/// The same for pairs of packs, whose coefficients at even places and at odd ones lie apart:
///
///     place    0  1  2  3  4  5 ...
///     values_  k0 k2 k4 ...   |   k1 k3 k5 ...
template <class P, Index Most>
class CoefficientArray<PackPair<P>, Most> {
 public:
  using C = typename P::Scalar;

  BATCHNORM_ALWAYS_INLINE const C& of_channel(Index c) const { return values_[c]; }

  template <class V>
  BATCHNORM_ALWAYS_INLINE void set(Index, Index c, const V& coefficients) {
    store(values_ + c, coefficients);
  }

  BATCHNORM_ALWAYS_INLINE void spread(const Columns& columns, const Segments& segments, Index start) {
    static_assert(2 * P::size >= least_row, "a pack must hold half of a channel's columns");
    C of_channels[static_cast<std::size_t>(Most)];
    std::copy_n(values_, columns.channels, of_channels);
    const Index inner = columns.inner, once = columns.channels * inner;
    if (inner == 1) {
      C *const first = place_of(start), *const second = place_of(start + 1);
      const Index pairs = once / 2;
      for (Index k = 0; k < pairs; ++k) {
        first[k] = of_channels[2 * k];
        second[k] = of_channels[2 * k + 1];
      }
      if (once % 2 != 0) first[pairs] = of_channels[once - 1];
    } else {
      for (Index c = 0; c < columns.channels; ++c) {
        store(place_of(start + c * inner), P::all(of_channels[c]));
        store(place_of(start + c * inner + 1), P::all(of_channels[c]));
      }
    }
    const Index end = start + segments.period + (segments.wraps() ? 2 * P::size - 1 : 0);
    for (Index place = start + once; place < end; ++place) *place_of(place) = *place_of(place - once);
  }

  template <class Q>
  BATCHNORM_ALWAYS_INLINE Q at(Index place) const {
    const Index odd = place & 1, half = place >> 1, other = -odd & size;
    if constexpr (Q::size == 1) {
      return load<Q>(values_ + half + other);
    } else {
      return {load<decltype(Q::a)>(values_ + half + other),
              load<decltype(Q::b)>(values_ + half + odd + (size - other))};
    }
  }

 private:
  static constexpr Index size = Most / 2 + 2 * P::size + least_row;

  BATCHNORM_ALWAYS_INLINE C* place_of(Index place) { return values_ + (place & 1) * size + (place >> 1); }

  alignas(sizeof(P)) C values_[static_cast<std::size_t>(2 * size)];
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

/// Where the same element lies in each tensor of a pass.
template <class T, std::size_t N, std::size_t M>
struct Place {
  const T* in[N];
  T* out[M];

  static BATCHNORM_ALWAYS_INLINE Place of(const Operands<T, N, M>& tensors, Index o, Index c, Index i) {
    Place result;
    BATCHNORM_UNROLL
    for (std::size_t t = 0; t < N; ++t) result.in[t] = tensors.in[t].at(o, c, i);
    BATCHNORM_UNROLL
    for (std::size_t t = 0; t < M; ++t) {
      result.out[t] = t > 0 && tensors.out[t].data == nullptr ? nullptr : tensors.out[t].at(o, c, i);
    }
    return result;
  }
  BATCHNORM_ALWAYS_INLINE void to_next_outer_step(const Operands<T, N, M>& tensors) {
    BATCHNORM_UNROLL
    for (std::size_t t = 0; t < N; ++t) in[t] += tensors.in[t].outer_stride;
    BATCHNORM_UNROLL
    for (std::size_t t = 0; t < M; ++t) {
      if (t == 0 || out[t] != nullptr) out[t] += tensors.out[t].outer_stride;
    }
  }
};

/// What a formula gives for some elements of each tensor that is written.
template <class P, std::size_t M>
struct Results {
  P of[M];
};

/// The tensors that are written, from one place on: the first decides where whole packs begin.
template <class T, std::size_t M>
struct Outputs {
  T* y[M];

  template <class P>
  BATCHNORM_ALWAYS_INLINE void store_all(Index i, const Results<P, M>& results) const {
    store(y[0] + i, results.of[0]);
    BATCHNORM_UNROLL
    for (std::size_t t = 1; t < M; ++t) {
      if (y[t] != nullptr) store(y[t] + i, results.of[t]);
    }
  }
  /// The numbers [skip, skip + count) of packs.
  template <class P>
  BATCHNORM_ALWAYS_INLINE void store_part(Index i, const Results<P, M>& results, Index skip, Index count) const {
    detail::store_part(y[0] + i, results.of[0], skip, count);
    BATCHNORM_UNROLL
    for (std::size_t t = 1; t < M; ++t) {
      if (y[t] != nullptr) detail::store_part(y[t] + i, results.of[t], skip, count);
    }
  }
  /// Past the cache, the first alone: where it is so written there is no other.
  template <class P>
  BATCHNORM_ALWAYS_INLINE void stream_all(Index i, const Results<P, M>& results) const {
    stream(y[0] + i, results.of[0]);
  }
  /// Past the cache or not.
  template <class P>
  BATCHNORM_ALWAYS_INLINE void put_all(Index i, bool streamed, const Results<P, M>& results) const {
    if constexpr (M == 1) {
      put(y[0] + i, streamed, results.of[0]);
    } else if (streamed) {
      stream_all(i, results);
    } else {
      store_all(i, results);
    }
  }
};

/// Writes, from a place on, whole channels that lie one after another in every tensor, or a part of one channel: its
/// i-th element is f(in, i, k), where f gives P::size elements from the i-th on, as Results, and k are the coefficients
/// of each: of_channel(c) gives those of a channel, in packs, and blend(a, b, count) the first of one channel and the
/// rest of the next. A channel, `n` elements, is no shorter than a pack.
///
/// What is written may also be read by f at those elements: none is written before all that need it are read. Where it
/// lies, whether it is streamed past the cache, and how a tensor is cut changes no bit of it.
template <class P, class T, std::size_t N, std::size_t M, class OfChannel, class F>
BATCHNORM_ALWAYS_INLINE void write_channels(const Place<T, N, M>& place, Index n, Index channel, Index channel_end,
                                            bool streamed, const OfChannel& of_channel, const F& f) {
  constexpr Index size = P::size;
  Outputs<T, M> to;
  for (std::size_t t = 0; t < M; ++t) to.y[t] = place.out[t];
  const Index end = n * (channel_end - channel);
  // Whole packs begin at an address that is a multiple of their size. What lies before and after them is part of packs
  // that overlap them.
  const Index past = misalignment<P>(to.y[0]), head = past == 0 ? 0 : size - past, tail = (end - head) % size;
  auto k = of_channel(channel);
  if (head != 0) to.store_part(0, f(place.in, 0, k), 0, head);
  Results<P, M> last{};
  if (tail != 0) last = f(place.in, end - size, of_channel(channel_end - 1));

  Index i = head;
  for (Index next = n;; next += n) {
    const auto now = k;  // which nothing changes, and so stays in registers
    if (streamed) {
      for (; i + size <= next; i += size) to.stream_all(i, f(place.in, i, now));
    } else {
      for (; i + size <= next; i += size) to.store_all(i, f(place.in, i, now));
    }
    if (++channel == channel_end) break;
    const auto next_k = of_channel(channel);
    if (i < next) {
      to.put_all(i, streamed, f(place.in, i, blend(k, next_k, next - i)));
      i += size;
    }
    k = next_k;
  }
  if (tail != 0) to.store_part(end - tail, last, size - tail, tail);
}

/// The same for a tile, walked by rows.
template <class P, class T, std::size_t N, std::size_t M, class OfChannel, class F>
BATCHNORM_ALWAYS_INLINE void write_rows(const View& view, const Tile& tile, const Operands<T, N, M>& tensors,
                                        bool streamed, const OfChannel& of_channel, const F& f) {
  const Index n = tile.inner_end - tile.inner_begin, channels = tile.channels();
  const bool whole =
      n == view.inner && tensors.all_of([&](const auto& elements) { return elements.has_whole_steps(view); });
  const Index adjacent = whole ? channels : 1;  // channels that lie one after another
  for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
    for (Index c = 0; c < channels; c += adjacent) {
      const auto place = Place<T, N, M>::of(tensors, o, tile.channel_begin + c, tile.inner_begin);
      write_channels<P>(place, n, c, c + adjacent, streamed, of_channel, f);
    }
  }
}

/// The same for a tile, walked by columns: f(PackType<Q>(), in, i, j) gives Q::size elements from the i-th of a segment
/// on, the first in column j, Q being P, a pack of one or, where P is a pair, half a P. Where `segments.wraps()`, f may
/// count on the first columns again after the last, as many as such a pack needs.
template <class P, class T, std::size_t N, std::size_t M, class F>
BATCHNORM_ALWAYS_INLINE void write_columns(const Tile& tile, const Segments& segments, const Operands<T, N, M>& tensors,
                                           bool streamed, const F& f) {
  using All = PackType<P>;
  using One = PackType<typename P::One>;
  constexpr Index size = P::size;
  const Index n = segments.n;
  auto place = Place<T, N, M>::of(tensors, tile.outer_begin, tile.channel_begin, 0);
  for (Index segment = 0; segment < segments.count; ++segment, place.to_next_outer_step(tensors)) {
    const auto in = place.in;
    Outputs<T, M> to;
    for (std::size_t t = 0; t < M; ++t) to.y[t] = place.out[t];
    // As above; but packs that overlap cost short segments too much, and are no way to write what is streamed, whose
    // lines no ordinary store should touch again, or what is shorter than they are: single elements then, and what
    // halves of a pair fit in.
    const Index past = misalignment<P>(to.y[0]);
    const bool overlap = n >= size && !streamed;
    const Index head = past == 0 || (overlap && n < 8 * size) ? 0 : (std::min)(n, size - past);
    const bool ragged = (n - head) % size != 0;
    Results<P, M> first{}, last{};
    if (overlap && head != 0) first = f(All(), in, 0, 0);
    if (overlap && ragged) last = f(All(), in, n - size, (n - size) % segments.period);

    Index i = overlap ? head : 0, j = i;
    Index singles = overlap ? i : n < size ? n : head;
    const auto wrap = [&]() BATCHNORM_INLINE_LAMBDA {
      if (j >= segments.period) j -= segments.period;
    };
    const auto singly = [&](Index stop) BATCHNORM_INLINE_LAMBDA {
      for (; i < stop; ++i, ++j) {
        wrap();
        to.store_all(i, f(One(), in, i, j));
      }
    };
    for (;;) {
      if constexpr (is_pair<P>) {
        using Half = typename half_of<P>::type;
        const Index past_half = misalignment<Half>(to.y[0] + i);
        singly((std::min)(singles, past_half == 0 ? i : i + Half::size - past_half));
        for (; i + Half::size <= singles; i += Half::size, j += Half::size) {
          wrap();
          to.put_all(i, streamed, f(PackType<Half>(), in, i, j));
        }
      }
      singly(singles);
      while (i + size <= n) {
        wrap();
        const Index stop = (std::min)(n - size + 1, i + (segments.period - j));  // of packs that begin in this period
        for (; i < stop; i += size, j += size) to.put_all(i, streamed, f(All(), in, i, j));
      }
      if (overlap || i == n) break;
      wrap();
      singles = n;
    }
    if (overlap && head != 0) to.store_all(0, first);
    if (overlap && ragged) to.store_all(n - size, last);
  }
}

template <template <class> class Formula, class P, Index Most, class T, std::size_t N, std::size_t M, class Round,
          class F, std::size_t... K>
BATCHNORM_ALWAYS_INLINE bool elementwise_with(const View& view, const Tile& tile, const Operands<T, N, M>& tensors,
                                              bool streamed, const Round& round, const F& f,
                                              std::index_sequence<K...>) {
  CoefficientArray<P, Most> arrays[sizeof...(K)];
  // Where all lie one after another in every tensor, the walk goes straight through memory.
  const bool dense = tensors.all_of([&](const auto& elements) { return elements.is_dense(view); });
  const Columns columns(view, tile, dense);
  const bool in_columns = by_columns(view);
  const Index start =
      in_columns ? misalignment<P>(tensors.out[0].at(tile.outer_begin, tile.channel_begin, tile.inner_begin)) : 0;
  const bool applies =
      round([&](Index c, const auto&... k) BATCHNORM_INLINE_LAMBDA { (arrays[K].set(start, c, k), ...); });
  if (!applies) return false;
  if (in_columns) {
    const Segments segments(columns, dense && tile.channels() == view.channels, P::size, Most);
    for (auto& array : arrays) array.spread(columns, segments, start);
    write_columns<P>(tile, segments, tensors, streamed,
                     [&](auto type, const auto& in, Index i, Index j) BATCHNORM_INLINE_LAMBDA {
                       using Q = typename decltype(type)::Pack;
                       return f(in, i, Formula<Q>{arrays[K].template at<Q>(start + j)...});
                     });
  } else {
    const auto by_rows = [&](auto type) BATCHNORM_INLINE_LAMBDA {
      using Q = typename decltype(type)::Pack;
      write_rows<Q>(
          view, tile, tensors, streamed,
          [&](Index c) BATCHNORM_INLINE_LAMBDA { return Formula<Q>{Q::all(arrays[K].of_channel(c))...}; }, f);
    };
    if constexpr (is_pair<P>) {
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
  return true;
}

/// Writes the tile's elements: f(in, i, k) gives the Results for a pack from the i-th on of what `in` points to in each
/// tensor that is read, and k, a Formula<Q> of packs Q, holds its coefficients. Q is P, or one element, or in between.
/// Walked by columns, the rows of an outer step lie one after another in every tensor.
///
/// round(set) calls set(c, k...) with packs of each coefficient of the channels from the tile's c-th on, in the order
/// of Formula's members, for all channels in their order. It may return false instead: then nothing is written, and
/// false is returned.
template <template <class> class Formula, class P, Index Most, class T, std::size_t N, std::size_t M, class Round,
          class F>
BATCHNORM_ALWAYS_INLINE bool elementwise(const View& view, const Tile& tile, const Operands<T, N, M>& tensors,
                                         bool streamed, const Round& round, const F& f) {
  return elementwise_with<Formula, P, Most>(view, tile, tensors, streamed, round, f,
                                            std::make_index_sequence<static_cast<std::size_t>(Formula<P>::count)>());
}

/// The same element by element, for tiles with channels to which the formula does not apply: f(c) gives the function
/// that gives an element of the tile's c-th channel.
template <class T, std::size_t N, class F>
void elementwise_by_channel(const Tile& tile, const Operands<T, N>& tensors, const F& f) {
  for (Index c = 0; c < tile.channels(); ++c) {
    const auto value = f(c);
    for (Index o = tile.outer_begin; o < tile.outer_end; ++o) {
      const auto place = Place<T, N, 1>::of(tensors, o, tile.channel_begin + c, tile.inner_begin);
      const Index n = tile.inner_end - tile.inner_begin;
      for (Index i = 0; i < n; ++i) store(place.out[0] + i, value(place.in, i));
    }
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ELEMENTWISE_HPP
