// What the compiler is and may do: attributes, exceptions, and the namespace that keeps differently compiled units
// apart.

#ifndef BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP
#define BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP

#include "batchnorm/version.hpp"

#if defined(_MSVC_LANG) ? _MSVC_LANG < 201703L : __cplusplus < 201703L
#error "batchnorm needs C++17 or later"
#endif

// GNU vector types, the target attribute and inline assembly: GCC and Clang (not clang-cl, which follows MSVC's ABI).
// With BATCHNORM_PORTABLE defined they too get what every other compiler gets, plain loops.
#if defined(__GNUC__) && !defined(_MSC_VER) && !defined(BATCHNORM_PORTABLE)
#define BATCHNORM_GNU 1
#else
#define BATCHNORM_GNU 0
#endif

#if defined(__GNUC__)
#define BATCHNORM_ALWAYS_INLINE inline __attribute__((always_inline))
#define BATCHNORM_INLINE_LAMBDA __attribute__((always_inline))
#define BATCHNORM_NOINLINE __attribute__((noinline))
#else
#define BATCHNORM_ALWAYS_INLINE inline
#define BATCHNORM_INLINE_LAMBDA
#define BATCHNORM_NOINLINE
#endif

// Before a loop of few, constant steps, which GCC unrolls only when told to. Clang does on its own.
#if BATCHNORM_GNU && !defined(__clang__)
#define BATCHNORM_UNROLL _Pragma("GCC unroll 8")
#else
#define BATCHNORM_UNROLL
#endif

// More instruction sets than the unit is compiled for, chosen at run time.
#if BATCHNORM_GNU && defined(__x86_64__)
#define BATCHNORM_X86_DISPATCH 1
#else
#define BATCHNORM_X86_DISPATCH 0
#endif

// Instructions for which neither compiler's vector types have a name, by inline assembly, whose reads and writes the
// sanitizers do not see.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define BATCHNORM_X86_ASSEMBLY 0
#endif
#endif
#ifndef BATCHNORM_X86_ASSEMBLY
#if BATCHNORM_X86_DISPATCH && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BATCHNORM_X86_ASSEMBLY 1
#else
#define BATCHNORM_X86_ASSEMBLY 0
#endif
#endif

#if BATCHNORM_X86_ASSEMBLY && !defined(__clang__)
#define BATCHNORM_GCC_ASSEMBLY 1
#else
#define BATCHNORM_GCC_ASSEMBLY 0
#endif

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define BATCHNORM_EXCEPTIONS 1
#else
#define BATCHNORM_EXCEPTIONS 0
#endif

#ifdef __FAST_MATH__
#if BATCHNORM_GNU
#warning "batchnorm: -ffast-math lets the compiler reorder sums and ignore NaN, so exactness is not promised"
#endif
#elif defined(_M_FP_FAST)
#pragma message("batchnorm: /fp:fast lets the compiler reorder sums and ignore NaN, so exactness is not promised")
#endif

// Two units compiled with different flags have different code for the same inline functions, and the linker keeps one
// of them: a unit built with -mavx2 could so hand its AVX2 code to one that runs on an older processor. The name of an
// inline namespace tells them apart by version, instruction set, exceptions, -ffast-math and Eigen's index type.
#if defined(BATCHNORM_PORTABLE)
#define BATCHNORM_ABI_ISA _portable
#elif defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
    defined(__F16C__)
#define BATCHNORM_ABI_ISA _avx512
#elif defined(__AVX512F__)
#define BATCHNORM_ABI_ISA _avx512f
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define BATCHNORM_ABI_ISA _avx2_fma_f16c
#elif defined(__AVX2__) && defined(__FMA__)
#define BATCHNORM_ABI_ISA _avx2_fma
#elif defined(__AVX2__)
#define BATCHNORM_ABI_ISA _avx2
#elif defined(__AVX__)
#define BATCHNORM_ABI_ISA _avx
#elif defined(__SSE4_1__)
#define BATCHNORM_ABI_ISA _sse4
#elif defined(__SSE3__)
#define BATCHNORM_ABI_ISA _sse3
#elif defined(__ARM_FEATURE_SVE)
#define BATCHNORM_ABI_ISA _sve
#else
#define BATCHNORM_ABI_ISA _base
#endif

#if BATCHNORM_EXCEPTIONS && defined(__FAST_MATH__)
#define BATCHNORM_ABI_EXCEPTIONS _fast
#elif BATCHNORM_EXCEPTIONS
#define BATCHNORM_ABI_EXCEPTIONS
#elif defined(__FAST_MATH__)
#define BATCHNORM_ABI_EXCEPTIONS _noexcept_fast
#else
#define BATCHNORM_ABI_EXCEPTIONS _noexcept
#endif

// Eigen's vectors and tensors, of which layers are made, are indexed by the type that this macro of Eigen's names. Its
// first word goes into the name of the namespace: std, of Eigen's own std::ptrdiff_t, as nothing. (A word that is not
// listed here goes into the name as BATCHNORM_INDEX_<word>, which tells it apart as well.)
#define BATCHNORM_INDEX_std ,
#define BATCHNORM_INDEX_long _long,
#define BATCHNORM_INDEX_int _int,
#define BATCHNORM_INDEX_short _short,
#define BATCHNORM_INDEX_signed _signed,
#define BATCHNORM_FIRST(first, ...) first
#define BATCHNORM_FIRST_OF(...) BATCHNORM_FIRST(__VA_ARGS__, )
#define BATCHNORM_INDEX_WORD_(type) BATCHNORM_FIRST_OF(BATCHNORM_INDEX_##type)
#define BATCHNORM_INDEX_WORD(type) BATCHNORM_INDEX_WORD_(type)
#ifdef EIGEN_DEFAULT_DENSE_INDEX_TYPE
#define BATCHNORM_ABI_INDEX BATCHNORM_INDEX_WORD(EIGEN_DEFAULT_DENSE_INDEX_TYPE)
#else
#define BATCHNORM_ABI_INDEX
#endif

#define BATCHNORM_TEXT_OF(...) #__VA_ARGS__
#define BATCHNORM_TEXT(...) BATCHNORM_TEXT_OF(__VA_ARGS__)
#define BATCHNORM_JOIN_(major, minor, patch, isa, exceptions, index) \
  v##major##_##minor##_##patch##isa##exceptions##index
#define BATCHNORM_JOIN(major, minor, patch, isa, exceptions, index) \
  BATCHNORM_JOIN_(major, minor, patch, isa, exceptions, index)
#define BATCHNORM_ABI                                                                                          \
  BATCHNORM_JOIN(BATCHNORM_VERSION_MAJOR, BATCHNORM_VERSION_MINOR, BATCHNORM_VERSION_PATCH, BATCHNORM_ABI_ISA, \
                 BATCHNORM_ABI_EXCEPTIONS, BATCHNORM_ABI_INDEX)

#define BATCHNORM_NAMESPACE_BEGIN \
  namespace batchnorm {           \
  inline namespace BATCHNORM_ABI {
#define BATCHNORM_NAMESPACE_END \
  }                             \
  }

#endif  // BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP
