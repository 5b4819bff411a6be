// Pack<T, N, Fused>: N numbers that the kernels treat as one. On GCC and Clang float and double packs are vector
// registers of whatever width N asks for; any other type or compiler gets the same interface as loops over N elements.

#ifndef BATCHNORM_DETAIL_SIMD_PACK_HPP
#define BATCHNORM_DETAIL_SIMD_PACK_HPP

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/tensor.hpp"
#include "batchnorm/detail/simd/scalar.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// How many values of the type C, in which a tensor of T is computed, a kernel with registers of `Bytes` takes at once.
template <class T, class C, int Bytes>
inline constexpr int lanes = is_vectorized<T> ? Bytes / static_cast<int>(sizeof(C)) : 1;

/// The sum of N numbers, two and two, which takes a fraction of the time that one after another takes.
template <int N, class T>
BATCHNORM_ALWAYS_INLINE T sum_of(const T* values) {
  if constexpr (N == 1) {
    return values[0];
  } else {
    const T first = sum_of<N / 2>(values), second = sum_of<N - N / 2>(values + N / 2);
    return first + second;
  }
}

/// Whether the baseline, what the unit is compiled for, has an instruction that multiplies and adds with one rounding.
#if defined(__FMA__) || defined(__FMA4__) || defined(__AVX512F__) || (BATCHNORM_GNU && defined(__aarch64__)) || \
    (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
inline constexpr bool baseline_is_fused = BATCHNORM_GNU;
#else
inline constexpr bool baseline_is_fused = false;
#endif

/// Whether kernels with registers of `Bytes` have one.
template <class T, int Bytes>
inline constexpr bool is_fused = is_vectorized<T> && (baseline_is_fused || (BATCHNORM_X86_DISPATCH && Bytes >= 32));

/// a * b + c of single numbers, rounded once if Fused, else twice. A compiler that may fuse does so in one loop and not
/// in the next: GCC not where it expects the sum to be ready sooner otherwise (-mtune=generic since GCC 14, Zen's,
/// -mcpu=ampere1). So that the bits of a result do not depend on where it is computed, fused operations are written
/// out, and where they are not, there is no instruction for them.
template <bool Fused, class T>
BATCHNORM_ALWAYS_INLINE T multiply_add(const T& a, const T& b, const T& c) {
  if constexpr (Fused) {
#if BATCHNORM_X86_DISPATCH && !defined(__clang__) && !(defined(__FMA4__) && !defined(__FMA__))
    T sum = c;
    if constexpr (std::is_same_v<T, float>) {
      asm("vfmadd231ss {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(a), "x"(b));
    } else {
      asm("vfmadd231sd {%2, %1, %0|%0, %1, %2}" : "+x"(sum) : "x"(a), "x"(b));
    }
    return sum;
#else
    return std::fma(a, b, c);
#endif
  } else {
    const T sum = a * b + c;  // one expression: of AutoDiff's scalars and the like there may be more than one type
    return sum;
  }
}

/// N numbers of a type without vectors, or a single number beside packs of them. Fused says whether mul_add and sub_mul
/// round once, as the packs of the same kernel do.
// The value of each operation is named before it is stored: GCC 12 fails on an operator that may throw otherwise.
template <class T, int N, bool Fused>
struct Pack {
  using Scalar = T;
  /// A single number of the same kind.
  using One = Pack<T, 1, Fused>;
  static constexpr int size = N;
  static constexpr bool fused = Fused;
  T v[static_cast<std::size_t>(N)];

  static BATCHNORM_ALWAYS_INLINE Pack all(const T& value) {
    Pack result;
    for (int i = 0; i < N; ++i) result.v[i] = value;
    return result;
  }
  friend BATCHNORM_ALWAYS_INLINE Pack operator+(const Pack& a, const Pack& b) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      const T sum = a.v[i] + b.v[i];
      result.v[i] = sum;
    }
    return result;
  }
  friend BATCHNORM_ALWAYS_INLINE Pack operator-(const Pack& a, const Pack& b) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      const T difference = a.v[i] - b.v[i];
      result.v[i] = difference;
    }
    return result;
  }
  friend BATCHNORM_ALWAYS_INLINE Pack operator*(const Pack& a, const Pack& b) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      const T product = a.v[i] * b.v[i];
      result.v[i] = product;
    }
    return result;
  }
  friend BATCHNORM_ALWAYS_INLINE Pack operator/(const Pack& a, const Pack& b) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      const T quotient = a.v[i] / b.v[i];
      result.v[i] = quotient;
    }
    return result;
  }
  /// a * b + c.
  friend BATCHNORM_ALWAYS_INLINE Pack mul_add(const Pack& a, const Pack& b, const Pack& c) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      const T sum = multiply_add<Fused>(a.v[i], b.v[i], c.v[i]);
      result.v[i] = sum;
    }
    return result;
  }
  /// c - a * b.
  friend BATCHNORM_ALWAYS_INLINE Pack sub_mul(const Pack& c, const Pack& a, const Pack& b) {
    Pack result;
    for (int i = 0; i < N; ++i) {
      if constexpr (Fused) {
        result.v[i] = multiply_add<true>(T(-a.v[i]), b.v[i], c.v[i]);
      } else {
        const T difference = c.v[i] - a.v[i] * b.v[i];
        result.v[i] = difference;
      }
    }
    return result;
  }
  /// The first `count` numbers of a, and of b those after them.
  friend BATCHNORM_ALWAYS_INLINE Pack blend(const Pack& a, const Pack& b, Index count) {
    Pack result = b;
    for (int i = 0; i < N && i < count; ++i) result.v[i] = a.v[i];
    return result;
  }
  /// 0 in place of a's numbers below 0.
  friend BATCHNORM_ALWAYS_INLINE Pack not_negative(const Pack& a) {
    Pack result = a;
    for (int i = 0; i < N; ++i) {
      if (a.v[i] < T(0)) result.v[i] = T(0);
    }
    return result;
  }
  /// a where `test` is above the limit, or NaN, and elsewhere b.
  friend BATCHNORM_ALWAYS_INLINE Pack where_above(const Pack& test, const Pack& limit, const Pack& a, const Pack& b) {
    Pack result = a;
    for (int i = 0; i < N; ++i) {
      if (test.v[i] <= limit.v[i]) result.v[i] = b.v[i];
    }
    return result;
  }
  /// 1 / a, but 0 where a is 0, which is divided by nowhere.
  friend BATCHNORM_ALWAYS_INLINE Pack inverse_or_zero(const Pack& a) {
    Pack result = a;
    for (int i = 0; i < N; ++i) {
      if (a.v[i] == T(0)) {
        result.v[i] = T(0);
      } else {
        const T inverse = T(1) / a.v[i];
        result.v[i] = inverse;
      }
    }
    return result;
  }
  friend BATCHNORM_ALWAYS_INLINE T sum(const Pack& a) { return sum_of<N>(a.v); }
};

#if BATCHNORM_GNU

// The vector types, named one by one: GCC converts between vectors only where their size depends on no template
// parameter. may_alias and the alignment of one element let them be loaded from any address.
template <class T, int N>
struct vector_of;

#define BATCHNORM_VECTOR(T, Mask, N)                                                              \
  template <>                                                                                     \
  struct vector_of<T, N> {                                                                        \
    typedef T type __attribute__((vector_size(N * sizeof(T))));                                   \
    typedef Mask mask __attribute__((vector_size(N * sizeof(T))));                                \
    typedef T memory __attribute__((vector_size(N * sizeof(T)), may_alias, aligned(alignof(T)))); \
  };
BATCHNORM_VECTOR(float, std::int32_t, 2)
BATCHNORM_VECTOR(float, std::int32_t, 4)
BATCHNORM_VECTOR(float, std::int32_t, 8)
BATCHNORM_VECTOR(float, std::int32_t, 16)
BATCHNORM_VECTOR(double, std::int64_t, 2)
BATCHNORM_VECTOR(double, std::int64_t, 4)
BATCHNORM_VECTOR(double, std::int64_t, 8)
BATCHNORM_VECTOR(double, std::int64_t, 16)
#ifdef __clang__
BATCHNORM_VECTOR(__fp16, std::int16_t, 4)
BATCHNORM_VECTOR(__fp16, std::int16_t, 8)
BATCHNORM_VECTOR(__fp16, std::int16_t, 16)
#endif
BATCHNORM_VECTOR(std::uint16_t, std::int16_t, 2)
BATCHNORM_VECTOR(std::uint16_t, std::int16_t, 4)
BATCHNORM_VECTOR(std::uint16_t, std::int16_t, 8)
BATCHNORM_VECTOR(std::uint16_t, std::int16_t, 16)
BATCHNORM_VECTOR(std::uint16_t, std::int16_t, 32)
BATCHNORM_VECTOR(std::uint32_t, std::int32_t, 2)
BATCHNORM_VECTOR(std::uint32_t, std::int32_t, 4)
BATCHNORM_VECTOR(std::uint32_t, std::int32_t, 8)
BATCHNORM_VECTOR(std::uint32_t, std::int32_t, 16)
#undef BATCHNORM_VECTOR

// N lanes from the (N - count)-th on are a mask of the first `count`. In memory, since GCC 16 makes one of a comparison
// lane by lane.
template <class Lane, int N>
struct FirstLanes {
  Lane masks[static_cast<std::size_t>(2 * N)];

  constexpr FirstLanes() : masks() {
    for (int i = 0; i < 2 * N; ++i) masks[i] = i < N ? Lane(-1) : Lane(0);
  }
};
template <class Lane, int N>
inline constexpr FirstLanes<Lane, N> first_lanes{};

// A vector in a struct: passed by value between functions that are always inlined, it draws no warning about the
// calling convention, which a bare vector would.
template <class T, int N>
struct Vector {
  using Type = typename vector_of<T, N>::type;
  using Memory = typename vector_of<T, N>::memory;
  Type v;
};

/// A vector register of N numbers, or half of the smallest one, with the interface of Pack.
template <class T, int N, bool Fused>
struct VectorPack : Vector<T, N> {
  using Scalar = T;
  using Type = typename vector_of<T, N>::type;
  using Mask = typename vector_of<T, N>::mask;
  using Self = Pack<T, N, Fused>;
  using One = Pack<T, 1, Fused>;
  static constexpr int size = N;
  static constexpr bool fused = Fused;

  static BATCHNORM_ALWAYS_INLINE Self of(const Type& v) { return Self{{{v}}}; }
  static BATCHNORM_ALWAYS_INLINE Self all(T value) { return copies(value, std::make_integer_sequence<int, N>()); }
  friend BATCHNORM_ALWAYS_INLINE Self operator+(const Self& a, const Self& b) { return of(a.v + b.v); }
  friend BATCHNORM_ALWAYS_INLINE Self operator-(const Self& a, const Self& b) { return of(a.v - b.v); }
  friend BATCHNORM_ALWAYS_INLINE Self operator*(const Self& a, const Self& b) { return of(a.v * b.v); }
  friend BATCHNORM_ALWAYS_INLINE Self operator/(const Self& a, const Self& b) { return of(a.v / b.v); }
  friend BATCHNORM_ALWAYS_INLINE Self mul_add(const Self& a, const Self& b, const Self& c) {
#if defined(__clang__)
#pragma clang fp contract(on)  // to one instruction, where there is such a one
    return of(a.v * b.v + c.v);
#else
    if constexpr (!Fused) {
      return of(a.v * b.v + c.v);
    } else {
#if BATCHNORM_X86_DISPATCH && !(defined(__FMA4__) && !defined(__FMA__))
      Type sum = c.v;  // of a member of a pack GCC would keep a copy on the stack
      if constexpr (std::is_same_v<T, float>) {
        asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(a.v), "v"(b.v));
      } else {
        asm("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(sum) : "v"(a.v), "v"(b.v));
      }
      return of(sum);
#elif defined(__aarch64__)
      Type sum = c.v;
      if constexpr (std::is_same_v<T, float>) {
        asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a.v), "w"(b.v));
      } else {
        asm("fmla %0.2d, %1.2d, %2.2d" : "+w"(sum) : "w"(a.v), "w"(b.v));
      }
      return of(sum);
#else
      Type sum = c.v;
      for (int i = 0; i < N; ++i) sum[i] = multiply_add<true>(a.v[i], b.v[i], c.v[i]);
      return of(sum);
#endif
    }
#endif
  }
  friend BATCHNORM_ALWAYS_INLINE Self sub_mul(const Self& c, const Self& a, const Self& b) {
#if defined(__clang__)
#pragma clang fp contract(on)  // to one instruction, where there is such a one
    return of(c.v - a.v * b.v);
#else
    if constexpr (!Fused) {
      return of(c.v - a.v * b.v);
    } else {
#if BATCHNORM_X86_DISPATCH && !(defined(__FMA4__) && !defined(__FMA__))
      Type difference = c.v;
      if constexpr (std::is_same_v<T, float>) {
        asm("vfnmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(difference) : "v"(a.v), "v"(b.v));
      } else {
        asm("vfnmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(difference) : "v"(a.v), "v"(b.v));
      }
      return of(difference);
#elif defined(__aarch64__)
      Type difference = c.v;
      if constexpr (std::is_same_v<T, float>) {
        asm("fmls %0.4s, %1.4s, %2.4s" : "+w"(difference) : "w"(a.v), "w"(b.v));
      } else {
        asm("fmls %0.2d, %1.2d, %2.2d" : "+w"(difference) : "w"(a.v), "w"(b.v));
      }
      return of(difference);
#else
      return mul_add(of(-a.v), b, c);
#endif
    }
#endif
  }
  friend BATCHNORM_ALWAYS_INLINE Self blend(const Self& a, const Self& b, Index count) {
    using Lane = std::remove_reference_t<decltype(Mask{}[0])>;
    Mask from_a;
    std::memcpy(&from_a, first_lanes<Lane, N>.masks + (N - count), sizeof(from_a));
    return of(reinterpret_cast<Type>((reinterpret_cast<Mask>(a.v) & from_a) | (reinterpret_cast<Mask>(b.v) & ~from_a)));
  }
  friend BATCHNORM_ALWAYS_INLINE Self not_negative(const Self& a) {
    const Mask negative = a.v < Type{};
    return of(reinterpret_cast<Type>(reinterpret_cast<Mask>(a.v) & ~negative));
  }
  friend BATCHNORM_ALWAYS_INLINE Self where_above(const Self& test, const Self& limit, const Self& a, const Self& b) {
#if BATCHNORM_X86_DISPATCH && !defined(__clang__)
    // Of comparisons of wide vectors GCC makes one for each lane.
    if constexpr (sizeof(Type) == 64) {
      Type result = b.v;
      if constexpr (std::is_same_v<T, float>) {
        asm("vcmpps {$22, %2, %1, %%k1|k1, %1, %2, 22}\n\tvmovaps {%3, %0%{%%k1%}|%0%{k1%}, %3}"
            : "+v"(result)
            : "v"(test.v), "v"(limit.v), "v"(a.v)
            : "k1");
      } else {
        asm("vcmppd {$22, %2, %1, %%k1|k1, %1, %2, 22}\n\tvmovapd {%3, %0%{%%k1%}|%0%{k1%}, %3}"
            : "+v"(result)
            : "v"(test.v), "v"(limit.v), "v"(a.v)
            : "k1");
      }
      return of(result);
    } else if constexpr (sizeof(Type) == 32) {
      Type above;
      if constexpr (std::is_same_v<T, float>) {
        asm("vcmpps {$22, %2, %1, %0|%0, %1, %2, 22}" : "=x"(above) : "x"(test.v), "x"(limit.v));
      } else {
        asm("vcmppd {$22, %2, %1, %0|%0, %1, %2, 22}" : "=x"(above) : "x"(test.v), "x"(limit.v));
      }
      const Mask from_a = reinterpret_cast<Mask>(above);
      return of(
          reinterpret_cast<Type>((reinterpret_cast<Mask>(a.v) & from_a) | (reinterpret_cast<Mask>(b.v) & ~from_a)));
    }
#endif
    const Mask not_above = test.v <= limit.v;
    return of(
        reinterpret_cast<Type>((reinterpret_cast<Mask>(a.v) & ~not_above) | (reinterpret_cast<Mask>(b.v) & not_above)));
  }
  friend BATCHNORM_ALWAYS_INLINE Self inverse_or_zero(const Self& a) {
    const Mask zero = a.v == Type{};
    const Mask one = reinterpret_cast<Mask>(all(T(1)).v) & zero;
    const Self inverse = all(T(1)) / of(reinterpret_cast<Type>(reinterpret_cast<Mask>(a.v) | one));
    return of(reinterpret_cast<Type>(reinterpret_cast<Mask>(inverse.v) & ~zero));
  }
  friend BATCHNORM_ALWAYS_INLINE T sum(const Self& a) {
    T lanes[static_cast<std::size_t>(N)];
    std::memcpy(lanes, &a.v, sizeof(lanes));
    return sum_of<N>(lanes);
  }

 private:
  // A list of copies is one instruction at every optimization level. Of a loop over the lanes GCC's -O3 makes an
  // insertion for each.
  template <int... Lanes>
  static BATCHNORM_ALWAYS_INLINE Self copies(T value, std::integer_sequence<int, Lanes...>) {
    return of(Type{(static_cast<void>(Lanes), value)...});
  }
};

#define BATCHNORM_PACK(T, N) \
  template <bool Fused>      \
  struct Pack<T, N, Fused> : VectorPack<T, N, Fused> {};
BATCHNORM_PACK(float, 4)
BATCHNORM_PACK(float, 8)
BATCHNORM_PACK(float, 16)
BATCHNORM_PACK(double, 2)
BATCHNORM_PACK(double, 4)
BATCHNORM_PACK(double, 8)
#undef BATCHNORM_PACK

template <class P>
inline constexpr bool is_register = std::is_base_of_v<VectorPack<typename P::Scalar, P::size, P::fused>, P>;

#else
template <class P>
inline constexpr bool is_register = false;
#endif

/// The pack of C's in which a kernel with registers of `Bytes` computes for tensors of T: a register of them, or a
/// single one where T has no vector kernels.
template <class T, class C, int Bytes>
using KernelPack = Pack<C, lanes<T, C, Bytes>, is_fused<T, Bytes>>;

/// The square root of each number.
template <class P>
BATCHNORM_ALWAYS_INLINE P square_root(const P& a) {
  using std::sqrt;
  P result = a;
#if BATCHNORM_GCC_ASSEMBLY
  // GCC computes numbers of a vector one by one, with a detour for errno.
  if constexpr (is_register<P> && std::is_same_v<typename P::Scalar, double> && P::size == 2) {
    asm("%vsqrtpd {%1, %0|%0, %1}" : "=x"(result.v) : "x"(a.v));
    return result;
  }
#endif
  for (int i = 0; i < P::size; ++i) {
    const typename P::Scalar root = sqrt(a.v[i]);
    result.v[i] = root;
  }
  return result;
}

/// Tells a function which pack to work in.
template <class P>
struct PackType {
  using Pack = P;
};

/// Calls f(PackType<Q>(), i) for all of [0, n), Q::size numbers from i on at a time, Q being P or, for those that are
/// left, a pack of one.
template <class P, class F>
BATCHNORM_ALWAYS_INLINE void for_each_pack(Index n, const F& f) {
  Index i = 0;
  for (; i + P::size <= n; i += P::size) f(PackType<P>(), i);
  if constexpr (P::size > 1) {
    for (; i < n; ++i) f(PackType<typename P::One>(), i);
  }
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_PACK_HPP
