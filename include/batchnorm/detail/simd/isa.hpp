// The instruction set, chosen once at run time, so that a program compiled for any x86-64 uses what its processor has.

#ifndef BATCHNORM_DETAIL_SIMD_ISA_HPP
#define BATCHNORM_DETAIL_SIMD_ISA_HPP

#include <cstdlib>
#include <string_view>
#include <utility>

#include "batchnorm/detail/interface/error.hpp"
#include "batchnorm/detail/interface/kinds.hpp"
#include "batchnorm/detail/simd/pack.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// baseline is what the unit is compiled for: SSE2 on x86-64, NEON on AArch64, or more with flags like -mavx2.
enum class Isa { baseline, avx2, avx512 };

/// Whether this compiler may keep vectors of 32 and 64 bytes on the stack. GCC for Windows takes them to lie at
/// multiples of their size there, while Windows aligns the stack to 16 bytes, and so the program crashes in some calls
/// and not in others (GCC's bug 54412). Some distributions mend their GCC, or an option of the assembler does
/// (-Wa,-muse-unaligned-vector-move), which no macro of the compiler tells: BATCHNORM_WINDOWS_AVX does.
#if defined(_WIN32) && defined(__GNUC__) && !defined(__clang__) && !defined(BATCHNORM_WINDOWS_AVX)
inline constexpr bool stack_holds_wide_vectors = false;
#else
inline constexpr bool stack_holds_wide_vectors = true;
#endif

#if BATCHNORM_X86_DISPATCH
struct CpuId {
  unsigned eax, ebx, ecx, edx;
};

// The instruction itself: Clang 14's cpuid.h does not assemble under -masm=intel.
inline CpuId cpuid(unsigned leaf, unsigned subleaf) {
  CpuId result{leaf, 0, subleaf, 0};
  asm("cpuid" : "+a"(result.eax), "=b"(result.ebx), "+c"(result.ecx), "=d"(result.edx));
  return result;
}

// Clang 14 has no name for f16c to ask __builtin_cpu_supports by.
inline bool has_f16c() { return (cpuid(1, 0).ecx >> 29 & 1) != 0; }
#endif

/// The best instruction set that this processor has and this compiler may be trusted with.
inline Isa supported_isa() {
#if BATCHNORM_X86_DISPATCH
  if (!stack_holds_wide_vectors) return Isa::baseline;
  if (!has_f16c()) return Isa::baseline;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return Isa::avx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

/// The instruction set of a name, or the best one for none: of a variable that is not set, or set to nothing.
inline Isa parse_isa(const char* name) {
  const std::string_view text = name == nullptr || *name == '\0' ? "avx512" : name;
  require(text == "baseline" || text == "avx2" || text == "avx512",
          "expected baseline, avx2 or avx512 in the environment variable BATCHNORM_MAX_ISA, got \"", text, "\"");
  return text == "baseline" ? Isa::baseline : text == "avx2" ? Isa::avx2 : Isa::avx512;
}

/// The best instruction set of this processor, no better than the environment variable BATCHNORM_MAX_ISA allows. Asked
/// once, where there is a choice; a value that is no instruction set's name is std::invalid_argument.
inline Isa best_isa() {
#if BATCHNORM_X86_DISPATCH
  static const Isa isa = [] {
    const Isa limit = parse_isa(std::getenv("BATCHNORM_MAX_ISA")), most = supported_isa();
    return limit < most ? limit : most;
  }();
  return isa;
#else
  return Isa::baseline;  // and MSVC, which warns of std::getenv, has none to warn of
#endif
}

#if BATCHNORM_X86_DISPATCH
// Kernel::call<Bytes> is always inlined and compiled here with the instructions that registers of `Bytes` need.
template <class Kernel, class... Arguments>
__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c"))) BATCHNORM_NOINLINE void run_avx512(
    const Arguments&... arguments) {
  Kernel::template call<64>(arguments...);
}

template <class Kernel, class... Arguments>
__attribute__((target("avx2,fma,f16c"))) BATCHNORM_NOINLINE void run_avx2(const Arguments&... arguments) {
  Kernel::template call<32>(arguments...);
}
#endif

// What the unit itself is compiled for.
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__F16C__)
inline constexpr int baseline_bytes = 64;
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
inline constexpr int baseline_bytes = 32;
#else
inline constexpr int baseline_bytes = 16;
#endif

template <class Kernel, class... Arguments>
BATCHNORM_NOINLINE void run_baseline(const Arguments&... arguments) {
  Kernel::template call<baseline_bytes>(arguments...);
}

/// Runs a kernel for tensors of T by the instruction set given.
template <class Kernel, class T, class... Arguments>
void run_kernel(Isa isa, const Arguments&... arguments) {
#if BATCHNORM_X86_DISPATCH
  if constexpr (is_vectorized<T>) {
    if (isa == Isa::avx512) return run_avx512<Kernel>(arguments...);
    if (isa == Isa::avx2) return run_avx2<Kernel>(arguments...);
  }
#endif
  static_cast<void>(isa);
  if constexpr (is_real<T>) run_baseline<Kernel>(arguments...);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SIMD_ISA_HPP
