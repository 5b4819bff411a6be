// From exact coefficients to those that a kernel computes with.

#ifndef BATCHNORM_DETAIL_KERNELS_ROUNDING_HPP
#define BATCHNORM_DETAIL_KERNELS_ROUNDING_HPP

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "batchnorm/detail/kernels/per_channel.hpp"
#include "batchnorm/detail/simd/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The bits of a double as a number: of doubles above 0 in their order.
BATCHNORM_ALWAYS_INLINE std::int64_t bits_of(double value) {
  std::int64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// Notes whether any of some doubles lies, without its sign, in [from, to), both given as bits.
///
/// By differences of bits, whose signs say what is less: of comparisons of vectors GCC makes one for each lane.
template <class P>
class RangeCheck {
 public:
  BATCHNORM_ALWAYS_INLINE void add(const P& value, std::int64_t from, std::int64_t to) {
    if constexpr (is_register<P>) {
#if BATCHNORM_GNU
      const auto size = reinterpret_cast<Lanes>(value.v) & all_but_sign;
      signs_ |= ~(size - from) & (size - to);
#endif
    } else {
      for (int i = 0; i < P::size; ++i) {
        const std::int64_t size = bits_of(value.v[i]) & all_but_sign;
        signs_[i] |= ~(size - from) & (size - to);
      }
    }
  }
  BATCHNORM_ALWAYS_INLINE bool found() const {
    std::int64_t lanes[P::size], any = 0;
    std::memcpy(lanes, &signs_, sizeof(lanes));
    for (const std::int64_t lane : lanes) any |= lane;
    return any < 0;
  }

 private:
  static constexpr std::int64_t all_but_sign = (std::numeric_limits<std::int64_t>::max)();

  template <class Q, bool = is_register<Q>>
  struct LanesOf {
    using type = std::int64_t[Q::size];
  };
#if BATCHNORM_GNU
  template <class Q>
  struct LanesOf<Q, true> {
    using type = typename Q::Mask;
  };
#endif
  using Lanes = typename LanesOf<P>::type;

  Lanes signs_{};
};

/// Where coefficients are rounded to floats, and floats computed with, for the results to have a float's digits and to
/// overflow only where the exact ones do:
///
/// - factors have all their digits: they are 0 or in a float's normal range;
/// - what is added to or subtracted from a float is below half of the last digit of the largest float, so that no sum
///   overflows which is not, exactly, out of range.
///
/// Infinite and NaN coefficients are as good in floats as in doubles. A tile in which a channel has a coefficient out
/// of these ranges is computed element by element: that channel in double, the others in floats as always.
struct FloatRange {
  static constexpr double least_factor = double((std::numeric_limits<float>::min)());
  static constexpr double largest_factor = double((std::numeric_limits<float>::max)());
  static constexpr double largest_term = 0x1p100;
};

template <class P>
BATCHNORM_ALWAYS_INLINE void check_factor(RangeCheck<P>& check, const P& factor) {
  check.add(factor, 1, bits_of(FloatRange::least_factor));  // from the least double above 0 on
  check.add(factor, bits_of(FloatRange::largest_factor) + 1, bits_of(std::numeric_limits<double>::infinity()));
}

template <class P>
BATCHNORM_ALWAYS_INLINE void check_term(RangeCheck<P>& check, const P& term) {
  check.add(term, bits_of(FloatRange::largest_term), bits_of(std::numeric_limits<double>::infinity()));
}

/// The packs in which the exact coefficients of a tile's channels are read. One by one for the 16-bit types, whose
/// rounding is no matter of a few vector operations.
template <class T, class A, int Bytes>
using ExactPack = std::conditional_t<is_16_bit<T>, typename KernelPack<T, A, Bytes>::One, KernelPack<T, A, Bytes>>;

/// Calls f(arrays', c) for all of n channels, a pack V of them at a time, c being the first and arrays' the arrays from
/// there on. For the last pack these are a copy that goes on with the last channel, so that f is compiled once.
template <class V, class Arrays, class F>
BATCHNORM_ALWAYS_INLINE void for_each_padded_pack(const Arrays& arrays, Index n, const F& f) {
  typename Arrays::Scalar memory[static_cast<std::size_t>(Arrays::count)][static_cast<std::size_t>(V::size)];
  for (Index c = 0; c < n; c += V::size) {
    Arrays from = from_channel(arrays, c);
    for (int k = 0; c + V::size > n && k < Arrays::count; ++k) {
      if (from.arrays[k] == nullptr) continue;
      for (Index i = 0; i < V::size; ++i) memory[k][i] = from.arrays[k][(std::min)(i, n - 1 - c)];
      from.arrays[k] = memory[k];
    }
    f(from, c);
  }
}

/// The numbers of a pack as those of the type C that are nearest.
template <class C, class V>
BATCHNORM_ALWAYS_INLINE V rounded_to(const V& value) {
  if constexpr (std::is_same_v<C, typename V::Scalar>) {
    return value;
  } else {
    C lanes[V::size];
    store(lanes, value);
#if defined(__GNUC__)
    // GCC 12 takes two neighbouring doubles that are made floats and doubles again for unchanged.
    asm("" : "+m"(lanes));
#endif
    return load<V>(lanes);
  }
}

/// A coefficient for tensors of T: as it is, but NaN without digits that a 16-bit T has not.
template <class T, class V>
BATCHNORM_ALWAYS_INLINE V without_payload(const V& coefficient) {
  V result = coefficient;
  if constexpr (is_16_bit<T>) {
    static_assert(V::size == 1);
    if (result.v[0] != result.v[0]) result.v[0] = std::numeric_limits<typename V::Scalar>::quiet_NaN();
  }
  return result;
}

/// A result in double, as a float of which a T is made: NaN without digits that T has not.
BATCHNORM_ALWAYS_INLINE float to_float(double value) {
  return value == value ? static_cast<float>(value) : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_KERNELS_ROUNDING_HPP
