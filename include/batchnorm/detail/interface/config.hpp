// What the compiler is and may do: attributes, vector types, exceptions, and the namespace of this unit's flags.

#ifndef BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP
#define BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP

#include "batchnorm/detail/interface/abi.hpp"

// The standard that the unit is compiled for. Each header asks for what it needs; this one for C++14.
#ifdef _MSVC_LANG
#define BATCHNORM_CPLUSPLUS _MSVC_LANG
#else
#define BATCHNORM_CPLUSPLUS __cplusplus
#endif
#if BATCHNORM_CPLUSPLUS < 201402L
#error "batchnorm needs C++14 or later"
#endif

// MSVC itself. clang-cl, which follows its ABI and defines its macro, has the attributes and the preprocessor of Clang.
#if defined(_MSC_VER) && !defined(__clang__)
#define BATCHNORM_MSVC 1
#else
#define BATCHNORM_MSVC 0
#endif

// GNU vector types, the target attribute and inline assembly: GCC and Clang (not clang-cl, whose ABI is MSVC's). With
// BATCHNORM_PORTABLE defined they too get what every other compiler gets, plain loops.
#if defined(__GNUC__) && !defined(_MSC_VER) && !defined(BATCHNORM_PORTABLE)
#define BATCHNORM_GNU 1
#else
#define BATCHNORM_GNU 0
#endif

// BATCHNORM_COLD is for what is rare, and compiled once and small.
#if defined(__GNUC__) || defined(__clang__)
#define BATCHNORM_ALWAYS_INLINE inline __attribute__((always_inline))
#define BATCHNORM_INLINE_LAMBDA __attribute__((always_inline))
#define BATCHNORM_NOINLINE __attribute__((noinline))
#define BATCHNORM_COLD __attribute__((noinline, cold))
#elif BATCHNORM_MSVC
#define BATCHNORM_ALWAYS_INLINE __forceinline
#define BATCHNORM_INLINE_LAMBDA
#define BATCHNORM_NOINLINE __declspec(noinline)
#define BATCHNORM_COLD __declspec(noinline)
#else
#define BATCHNORM_ALWAYS_INLINE inline
#define BATCHNORM_INLINE_LAMBDA
#define BATCHNORM_NOINLINE
#define BATCHNORM_COLD
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

// MSVC's warning level 4 tells of things that are meant: parameters and code for which one instance of a template has
// no use (4100, 4702), conditions that are constants (4127), padding by alignas (4324), and functions that are not
// inlined although they are marked so (4714).
#if BATCHNORM_MSVC
#define BATCHNORM_WARNINGS_PUSH __pragma(warning(push)) __pragma(warning(disable : 4100 4127 4324 4702 4714))
#define BATCHNORM_WARNINGS_POP __pragma(warning(pop))
#else
#define BATCHNORM_WARNINGS_PUSH
#define BATCHNORM_WARNINGS_POP
#endif

#define BATCHNORM_NAMESPACE_BEGIN \
  BATCHNORM_WARNINGS_PUSH         \
  namespace batchnorm {           \
  inline namespace BATCHNORM_ABI {
#define BATCHNORM_NAMESPACE_END \
  }                             \
  }                             \
  BATCHNORM_WARNINGS_POP

#endif  // BATCHNORM_DETAIL_INTERFACE_CONFIG_HPP
