// Packs to and from memory, converted to and from the tensor's scalar type.

#ifndef BATCHNORM_DETAIL_SIMD_MEMORY_HPP
#define BATCHNORM_DETAIL_SIMD_MEMORY_HPP

#include <utility>

#include "batchnorm/detail/simd/pack_pair.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Asks for the cache line of an address that need not be anyone's.
template <class T>
BATCHNORM_ALWAYS_INLINE void prefetch(const T* address) {
#if BATCHNORM_GNU
  __builtin_prefetch(address, 0, 2);
#else
  static_cast<void>(address);
#endif
}

#if BATCHNORM_GNU

/// Vectors of N numbers of each type, and the conversions between them. Packs of four and more are only for processors
/// that convert Eigen::half by an instruction.
template <int N>
struct Vectors {
  // In structs, as packs are, for the sake of functions that return them.
  using Doubles = Vector<double, N>;
  using Floats = Vector<float, N>;
  using Bits = Vector<std::uint16_t, N>;
  using TwiceBits = Vector<std::uint16_t, 2 * N>;
  using Words = typename vector_of<std::uint32_t, N>::type;
  using BitsMemory = typename vector_of<std::uint16_t, N>::memory;
  using FloatsMemory = typename vector_of<float, N>::memory;

  static BATCHNORM_ALWAYS_INLINE Doubles doubles(const Floats& floats) {
#if BATCHNORM_GCC_ASSEMBLY
    if constexpr (N >= 4) {  // GCC 12 converts vectors half by half, where one instruction does it
      Doubles result;
      asm("vcvtps2pd {%1, %0|%0, %1}" : "=v"(result.v) : "v"(floats.v));
      return result;
    }
#endif
    return {__builtin_convertvector(floats.v, typename Doubles::Type)};
  }

  static BATCHNORM_ALWAYS_INLINE Doubles doubles(const float* from) {
    const FloatsMemory& memory = *reinterpret_cast<const FloatsMemory*>(from);
#if BATCHNORM_GCC_ASSEMBLY
    if constexpr (N >= 4) {
      Doubles result;
      asm("vcvtps2pd {%1, %0|%0, %1}" : "=v"(result.v) : "m"(memory));
      return result;
    }
#endif
    return {__builtin_convertvector(memory, typename Doubles::Type)};
  }

  template <class T>
  static BATCHNORM_ALWAYS_INLINE Doubles doubles(const T* from) {
    return doubles(floats(from));
  }

  static BATCHNORM_ALWAYS_INLINE Floats floats(const Eigen::bfloat16* from) {
    const BitsMemory& memory = *reinterpret_cast<const BitsMemory*>(from);
    Words words;
#if BATCHNORM_GCC_ASSEMBLY
    if constexpr (N == 8) {  // each to the upper half of its word, and zeros to the lower, in one operation
      const Words places = {0x1008080, 0x3028080, 0x5048080, 0x7068080, 0x9088080, 0xb0a8080, 0xd0c8080, 0xf0e8080};
      asm("vbroadcasti128 {%1, %0|%0, %1}" : "=x"(words) : "m"(memory));
      asm("vpshufb {%1, %0, %0|%0, %0, %1}" : "+x"(words) : "x"(places));
      return {reinterpret_cast<typename Floats::Type>(words)};
    } else if constexpr (N >= 4) {
      asm("vpmovzxwd {%1, %0|%0, %1}" : "=v"(words) : "m"(memory));
      return {reinterpret_cast<typename Floats::Type>(words << 16)};
    }
#endif
    words = __builtin_convertvector(memory, Words);
    return {reinterpret_cast<typename Floats::Type>(words << 16)};
  }

  /// 2 N numbers, those at even places and those at odd ones: fewer operations than one after another.
  static BATCHNORM_ALWAYS_INLINE void evens_and_odds(const Eigen::bfloat16* from, Floats& evens, Floats& odds) {
    Words words;
    std::memcpy(&words, from, sizeof(words));
    evens.v = reinterpret_cast<typename Floats::Type>(words << 16);
    odds.v = reinterpret_cast<typename Floats::Type>(words & 0xffff0000);
  }

  static BATCHNORM_ALWAYS_INLINE Floats floats(const Eigen::half* from) {
    Floats floats{};
#if BATCHNORM_X86_ASSEMBLY
    if constexpr (N >= 4) {
#ifdef __clang__
      using Memory = typename vector_of<__fp16, N>::memory;
      floats.v = __builtin_convertvector(*reinterpret_cast<const Memory*>(from), typename Floats::Type);
#else
      asm("vcvtph2ps {%1, %0|%0, %1}" : "=v"(floats.v) : "m"(*reinterpret_cast<const BitsMemory*>(from)));
#endif
      return floats;
    }
#endif
    for (int i = 0; i < N; ++i) floats.v[i] = static_cast<float>(from[i]);
    return floats;
  }

  static BATCHNORM_ALWAYS_INLINE Floats floats(const Doubles& doubles) {
#if BATCHNORM_GCC_ASSEMBLY
    if constexpr (N == 8) {
      Floats result;
      asm("vcvtpd2ps {%1, %0|%0, %1}" : "=v"(result.v) : "v"(doubles.v));
      return result;
    }
#endif
    return {__builtin_convertvector(doubles.v, typename Floats::Type)};
  }

  /// Rounded to nearest even. A NaN stays one if it has no digits beyond those of T, as all have that come of T's own
  /// or of arithmetic.
  static BATCHNORM_ALWAYS_INLINE Bits bits(const Floats& floats, Eigen::bfloat16) {
    const Words rounded = rounded_words(floats).v;
#ifdef __clang__
    if constexpr (N == 16) return upper_halves(rounded, std::make_integer_sequence<int, N>());
#elif BATCHNORM_GCC_ASSEMBLY
    if constexpr (N == 16) {
      const Words second_of_two = {0x30001,  0x70005,  0xb0009,  0xf000d,  // of the 16-bit numbers that words are
                                   0x130011, 0x170015, 0x1b0019, 0x1f001d};
      Bits narrow;
      asm("vpermw {%1, %2, %g0|%g0, %2, %1}" : "=v"(narrow.v) : "v"(rounded), "v"(second_of_two));
      return narrow;
    }
#endif
    const Words result = rounded >> 16;
#if BATCHNORM_GCC_ASSEMBLY
    if constexpr (N == 8) {
      Bits narrow;
      asm("vextracti128 {$1, %1, %x0|%x0, %1, 1}\n\tvpackusdw {%x0, %x1, %x0|%x0, %x1, %x0}"
          : "=&x"(narrow.v)
          : "x"(result));
      return narrow;
    } else if constexpr (N == 4) {
      Vector<std::uint16_t, 8> twice;
      asm("vpackusdw {%1, %1, %0|%0, %1, %1}" : "=x"(twice.v) : "x"(result));
      return first(twice);
    }
#endif
    return {__builtin_convertvector(result, typename Bits::Type)};
  }

  /// Likewise of numbers at even places and at odd ones.
  static BATCHNORM_ALWAYS_INLINE TwiceBits bits(const Floats& evens, const Floats& odds, Eigen::bfloat16) {
    const Words both = rounded_words(evens).v >> 16 | (rounded_words(odds).v & 0xffff0000);
    return {reinterpret_cast<typename TwiceBits::Type>(both)};
  }

  static BATCHNORM_ALWAYS_INLINE Bits bits(const Floats& floats, Eigen::half) {
    Bits result{};
#if BATCHNORM_X86_ASSEMBLY
    if constexpr (N >= 4) {
#ifdef __clang__
      using Type = typename vector_of<__fp16, N>::type;
      result.v = reinterpret_cast<typename Bits::Type>(__builtin_convertvector(floats.v, Type));
#else
      Vector<std::uint16_t, (N > 8 ? N : 8)> all;
      asm("vcvtps2ph {$0, %1, %0|%0, %1, 0}" : "=v"(all.v) : "v"(floats.v));
      result = first(all);
#endif
      return result;
    }
#endif
    for (int i = 0; i < N; ++i) result.v[i] = Eigen::half(floats.v[i]).x;
    return result;
  }

 private:
  // Bits of floats whose upper halves are those of the nearest bfloat16: to those of an odd one is added a digit that
  // carries a tie upward.
  static BATCHNORM_ALWAYS_INLINE Vector<std::uint32_t, N> rounded_words(const Floats& floats) {
    const Words words = reinterpret_cast<Words>(floats.v);
    return {(words | (words >> 16 & 1)) + 0x7fff};
  }

#ifdef __clang__
  // Clang 14 forgets that the store of a conversion is to be streamed, but not that of a shuffle.
  template <int... Places>
  static BATCHNORM_ALWAYS_INLINE Bits upper_halves(const Words& words, std::integer_sequence<int, Places...>) {
    using Halves = typename vector_of<std::uint16_t, 2 * N>::type;
    return {__builtin_shufflevector(reinterpret_cast<Halves>(words), Halves{}, (2 * Places + 1)...)};
  }
#endif

  // Those numbers of a whole register that are meant.
  template <int M>
  static BATCHNORM_ALWAYS_INLINE Bits first(const Vector<std::uint16_t, M>& all) {
    if constexpr (N == M) {
      return all;
    } else {
      Bits result;
      std::memcpy(&result, &all, sizeof(result));
      return result;
    }
  }
};

/// What is written of a pack to memory of T.
template <class T, class P>
BATCHNORM_ALWAYS_INLINE auto stored(const P& value) {
  if constexpr (is_pair<P>) {
    return Vectors<P::size / 2>::bits(value.a, value.b, T());
  } else if constexpr (is_16_bit<T>) {
    using V = Vectors<P::size>;
    if constexpr (std::is_same_v<typename P::Scalar, float>) {
      return V::bits(value, T());
    } else {
      return V::bits(V::floats(value), T());
    }
  } else if constexpr (!std::is_same_v<T, typename P::Scalar>) {
    return Vectors<P::size>::floats(value);
  } else {
    return Vector<T, P::size>{value.v};
  }
}

#endif  // BATCHNORM_GNU

/// P::size elements from memory that is aligned for one of them, converted to P's scalar.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE P load(const T* from) {
  if constexpr (!is_register<P>) {
    P result;
    for (int i = 0; i < P::size; ++i) result.v[i] = convert<typename P::Scalar>(from[i]);
    return result;
  } else {
#if BATCHNORM_GNU
    if constexpr (is_pair<P>) {
      Vector<float, P::size / 2> evens, odds;
      Vectors<P::size / 2>::evens_and_odds(from, evens, odds);
      return {decltype(P::a)::of(evens.v), decltype(P::b)::of(odds.v)};
    } else if constexpr (std::is_same_v<T, typename P::Scalar>) {
      P result;  // a reference to the vector in memory would be taken for an aligned one
      result.v = *reinterpret_cast<const typename P::Memory*>(from);
      return result;
    } else if constexpr (std::is_same_v<float, typename P::Scalar>) {
      return P::of(Vectors<P::size>::floats(from).v);
    } else {
      return P::of(Vectors<P::size>::doubles(from).v);
    }
#endif
  }
}

/// 2 P::size elements, in whatever order takes the fewest operations.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE PackPair<P> load_pair(const T* from) {
#if BATCHNORM_GNU
  if constexpr (is_register<P> && std::is_same_v<T, Eigen::bfloat16> && std::is_same_v<typename P::Scalar, double>) {
    using V = Vectors<P::size>;
    typename V::Floats evens, odds;
    V::evens_and_odds(from, evens, odds);
    return {P::of(V::doubles(evens).v), P::of(V::doubles(odds).v)};
  }
#endif
  return {load<P>(from), load<P>(from + P::size)};
}

/// Stores a pack to memory that is aligned for one element, converted to its type.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE void store(T* to, const P& value) {
  if constexpr (!is_register<P>) {
    for (int i = 0; i < P::size; ++i) to[i] = convert<T>(value.v[i]);
  } else {
#if BATCHNORM_GNU
    const auto result = stored<T>(value);
    *reinterpret_cast<typename decltype(stored<T>(value))::Memory*>(to) = result.v;
#endif
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_MEMORY_HPP
