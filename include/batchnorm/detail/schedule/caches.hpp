// How large this processor's last cache is.

#ifndef BATCHNORM_DETAIL_SCHEDULE_CACHES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_CACHES_HPP

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "batchnorm/detail/simd/isa.hpp"

#if defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__linux__)
#include <unistd.h>
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

#if BATCHNORM_X86_DISPATCH
// The size of the largest cache that a leaf of the instruction cpuid lists, 4 for Intel's processors and 0x8000001d for
// AMD's; 0 if it lists none. (What the C library tells can be many times as much on a virtual machine.)
inline Index largest_cache(unsigned leaf) {
  constexpr unsigned most_caches = 8;
  std::int64_t largest = 0;
  for (unsigned i = 0; i < most_caches; ++i) {
    const CpuId cache = cpuid(leaf, i);
    if ((cache.eax & 31) == 0) break;  // no more
    const std::int64_t ways = (cache.ebx >> 22) + 1, partitions = ((cache.ebx >> 12) & 1023) + 1;
    const std::int64_t line = (cache.ebx & 4095) + 1, sets = std::int64_t(cache.ecx) + 1;
    largest = (std::max)(largest, ways * partitions * line * sets);
  }
  return static_cast<Index>(largest);
}
#endif

// 0 where nothing tells.
inline Index found_cache_bytes() {
#if BATCHNORM_X86_DISPATCH
  if (const Index bytes = cpuid(0, 0).eax >= 4 ? largest_cache(4) : 0) return bytes;
  if (cpuid(0x80000000U, 0).eax >= 0x8000001dU) return largest_cache(0x8000001dU);
  return 0;
#elif defined(__APPLE__)
  std::int64_t bytes = 0;
  for (const char* name : {"hw.l3cachesize", "hw.perflevel0.l2cachesize", "hw.l2cachesize"}) {
    std::size_t size = sizeof(bytes);
    if (sysctlbyname(name, &bytes, &size, nullptr, 0) == 0 && bytes > 0) return static_cast<Index>(bytes);
  }
  return 0;
#elif defined(__linux__) && defined(_SC_LEVEL3_CACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
  return static_cast<Index>((std::max)(sysconf(_SC_LEVEL3_CACHE_SIZE), sysconf(_SC_LEVEL2_CACHE_SIZE)));
#else
  return 0;
#endif
}

/// The bytes of the last cache, asked once. The environment variable BATCHNORM_CACHE_BYTES, a number, says otherwise.
/// They decide what is fetched in advance, and no bit of a result.
inline Index cache_bytes() {
  static const Index bytes = [] {
    constexpr Index usual = Index(32) << 20;
#if BATCHNORM_X86_DISPATCH || !defined(_MSC_VER)
    if (const char* text = std::getenv("BATCHNORM_CACHE_BYTES")) {
      char* end = nullptr;
      const long long given = std::strtoll(text, &end, 10);
      require(*text == '\0' || (*end == '\0' && given >= 0),
              "expected a number of bytes in the environment variable BATCHNORM_CACHE_BYTES, got \"", text, "\"");
      if (*text != '\0') return static_cast<Index>(given);
    }
#endif
    const Index found = found_cache_bytes();
    return found > 0 ? found : usual;
  }();
  return bytes;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_CACHES_HPP
