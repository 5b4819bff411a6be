// Stores that bypass the cache, for outputs too large to be found there by whoever reads them next: an ordinary store
// first reads the line that it is about to overwrite.

#ifndef BATCHNORM_DETAIL_SIMD_STREAM_HPP
#define BATCHNORM_DETAIL_SIMD_STREAM_HPP

#include "batchnorm/detail/simd/memory.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Stores a pack to an address that is a multiple of its size.
template <class P, class T>
BATCHNORM_ALWAYS_INLINE void stream(T* to, const P& value) {
#if BATCHNORM_X86_ASSEMBLY
  if constexpr (is_register<P> && P::size * sizeof(T) >= 16) {
    const auto bits = stored<T>(value);
    using Bits = decltype(stored<T>(value));
#ifdef __clang__
    __builtin_nontemporal_store(bits.v, reinterpret_cast<typename Bits::Type*>(to));
#else
    auto& memory = *reinterpret_cast<typename Bits::Memory*>(to);
    if constexpr (sizeof(Bits) == 16) {
      asm("movntps {%1, %0|%0, %1}" : "=m"(memory) : "x"(bits.v));
    } else {
      asm("vmovntps {%1, %0|%0, %1}" : "=m"(memory) : "v"(bits.v));
    }
#endif
    return;
  }
#endif
  store(to, value);
}

/// Orders the streamed stores of this thread before whatever it does next, such as telling that it is done.
inline void finish_streaming() {
#if BATCHNORM_X86_ASSEMBLY
  asm volatile("sfence" ::: "memory");
#endif
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_STREAM_HPP
