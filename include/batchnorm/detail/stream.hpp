// Stores that bypass the cache, for outputs too large to be found there by whoever reads them next: an ordinary store
// first reads the line that it is about to overwrite.

#ifndef BATCHNORM_DETAIL_STREAM_HPP
#define BATCHNORM_DETAIL_STREAM_HPP

#include "batchnorm/detail/simd.hpp"

// The sanitizers do not see what inline assembly writes.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define BATCHNORM_STREAM 0
#endif
#endif
#ifndef BATCHNORM_STREAM
#if BATCHNORM_X86_DISPATCH && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define BATCHNORM_STREAM 1
#else
#define BATCHNORM_STREAM 0
#endif
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Stores a pack to an address that is a multiple of its size.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE void stream(T* to, const P& value) {
#if BATCHNORM_STREAM
  if constexpr (is_register<P> && sizeof(P) == P::size * sizeof(T)) {
#ifdef __clang__
    __builtin_nontemporal_store(value.v, reinterpret_cast<typename P::Vector*>(to));
#else
    auto& memory = *reinterpret_cast<typename P::Memory*>(to);
    if constexpr (sizeof(P) == 16) {
      asm("movntps %1, %0" : "=m"(memory) : "x"(value.v));
    } else {
      asm("vmovntps %1, %0" : "=m"(memory) : "v"(value.v));
    }
#endif
    return;
  }
#endif
  store(to, value);
}

/// Orders the streamed stores of this thread before whatever it does next, such as telling that it is done.
inline void finish_streaming() {
#if BATCHNORM_STREAM
  asm volatile("sfence" ::: "memory");
#endif
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_STREAM_HPP
