// The name of the inline namespace that keeps differently compiled units apart.
//
// Two units compiled with different flags have different code for the same inline functions, and the linker keeps one
// of them: a unit built with -mavx2 could so hand its AVX2 code to one that runs on an older processor, and one built
// with -ffast-math its reordered sums to one that was promised exact ones. The name of an inline namespace tells units
// apart by version, instruction set, arithmetic, exceptions and Eigen's index type:
//
//     v0_2_0_afc00                           GCC for any x86-64
//     v0_2_0_avx2_afffe_bfe00_d1000_gc480    GCC with -march=haswell
//
// Every macro by which a compiler tells of an instruction set is a bit of the name. Sixteen bits are a group, written
// as a letter and four hexadecimal digits, and left out where all are 0.

#ifndef BATCHNORM_DETAIL_INTERFACE_ABI_HPP
#define BATCHNORM_DETAIL_INTERFACE_ABI_HPP

#include "batchnorm/version.hpp"

#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define BATCHNORM_EXCEPTIONS 1
#else
#define BATCHNORM_EXCEPTIONS 0
#endif

// Whether the compiler has leave to compute something else than is written: to reorder sums, to multiply by an inverse,
// to take it that there is no NaN. GCC tells of each by a macro, Clang of -ffast-math and -ffinite-math-only alone, and
// on ARM of -funsafe-math-optimizations.
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#define BATCHNORM_FAST_MATH 1
#elif defined(__ARM_FP_FAST) || defined(_M_FP_FAST)
#define BATCHNORM_FAST_MATH 1
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define BATCHNORM_FAST_MATH 1
#else
#define BATCHNORM_FAST_MATH 0
#endif

// No macro here is handed an empty argument, and none hands several on as one, which the traditional preprocessor of
// MSVC would take amiss: it takes __VA_ARGS__ for one argument unless that passes through BATCHNORM_EXPAND.
#define BATCHNORM_EXPAND(x) x
#define BATCHNORM_FIRST_(first, ...) first
#define BATCHNORM_FIRST(...) BATCHNORM_EXPAND(BATCHNORM_FIRST_(__VA_ARGS__, ~))
#define BATCHNORM_SECOND_(first, second, ...) second
#define BATCHNORM_SECOND(...) BATCHNORM_EXPAND(BATCHNORM_SECOND_(__VA_ARGS__, ~))

#define BATCHNORM_TEXT_(x) #x
#define BATCHNORM_TEXT(x) BATCHNORM_TEXT_(x)
#define BATCHNORM_PASTE_(a, b) a##b
#define BATCHNORM_PASTE(a, b) BATCHNORM_PASTE_(a, b)
#define BATCHNORM_KEEP(name, more) name

// --- Version.

#define BATCHNORM_ABI_VERSION_(major, minor, patch) v##major##_##minor##_##patch
#define BATCHNORM_ABI_VERSION_OF(major, minor, patch) BATCHNORM_ABI_VERSION_(major, minor, patch)
#define BATCHNORM_ABI_VERSION \
  BATCHNORM_ABI_VERSION_OF(BATCHNORM_VERSION_MAJOR, BATCHNORM_VERSION_MINOR, BATCHNORM_VERSION_PATCH)

// --- Instruction set: a word for people, which is all that MSVC's few sets need, and the bits.

#if defined(__AVX10_1__)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _avx10)
#elif defined(__AVX512F__)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _avx512)
#elif defined(__AVX2__)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _avx2)
#elif defined(__AVX__)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _avx)
#elif defined(__SSE4_1__)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _sse4)
#elif defined(__ARM_FEATURE_SVE)
#define BATCHNORM_ABI_WORD BATCHNORM_PASTE(BATCHNORM_ABI_VERSION, _sve)
#else
#define BATCHNORM_ABI_WORD BATCHNORM_ABI_VERSION
#endif

// 1 for a macro x that is defined as 1, or as a version of a RISC-V extension, else 0: what is pasted from a defined
// one becomes two arguments, of which the second is the 1.
#define BATCHNORM_IS_1 ~, 1
#define BATCHNORM_IS_1000000 ~, 1
#define BATCHNORM_IS_2000000 ~, 1
#define BATCHNORM_IS_2001000 ~, 1
#define BATCHNORM_IS_2002000 ~, 1
#define BATCHNORM_BIT(x) BATCHNORM_SECOND(BATCHNORM_IS_##x, 0)

#define BATCHNORM_DIGIT_0000 0
#define BATCHNORM_DIGIT_0001 1
#define BATCHNORM_DIGIT_0010 2
#define BATCHNORM_DIGIT_0011 3
#define BATCHNORM_DIGIT_0100 4
#define BATCHNORM_DIGIT_0101 5
#define BATCHNORM_DIGIT_0110 6
#define BATCHNORM_DIGIT_0111 7
#define BATCHNORM_DIGIT_1000 8
#define BATCHNORM_DIGIT_1001 9
#define BATCHNORM_DIGIT_1010 a
#define BATCHNORM_DIGIT_1011 b
#define BATCHNORM_DIGIT_1100 c
#define BATCHNORM_DIGIT_1101 d
#define BATCHNORM_DIGIT_1110 e
#define BATCHNORM_DIGIT_1111 f
#define BATCHNORM_DIGIT_(a, b, c, d) BATCHNORM_DIGIT_##a##b##c##d
#define BATCHNORM_DIGIT_OF(a, b, c, d) BATCHNORM_DIGIT_(a, b, c, d)
#define BATCHNORM_DIGIT(a, b, c, d) \
  BATCHNORM_DIGIT_OF(BATCHNORM_BIT(a), BATCHNORM_BIT(b), BATCHNORM_BIT(c), BATCHNORM_BIT(d))

// A name and the digits of one more group, unless these are all 0.
#define BATCHNORM_APPEND_IF_0000 ~, BATCHNORM_KEEP
#define BATCHNORM_GROUP_(name, letter, a, b, c, d) \
  BATCHNORM_SECOND(BATCHNORM_APPEND_IF_##a##b##c##d, BATCHNORM_PASTE)(name, _##letter##a##b##c##d)
#define BATCHNORM_GROUP(name, letter, a, b, c, d) BATCHNORM_GROUP_(name, letter, a, b, c, d)

// clang-format off
#if defined(_MSC_VER) && !defined(__clang__)
#define BATCHNORM_ABI_ISA BATCHNORM_ABI_WORD
#elif defined(__x86_64__) || defined(__i386__)
#define BATCHNORM_ABI_ISA_A \
  BATCHNORM_GROUP(BATCHNORM_ABI_WORD, a, \
    BATCHNORM_DIGIT(__MMX__, __SSE__, __SSE2__, __SSE_MATH__), \
    BATCHNORM_DIGIT(__SSE2_MATH__, __FXSR__, __SSE3__, __SSSE3__), \
    BATCHNORM_DIGIT(__SSE4_1__, __SSE4_2__, __POPCNT__, __CRC32__), \
    BATCHNORM_DIGIT(__LAHF_SAHF__, __GCC_HAVE_SYNC_COMPARE_AND_SWAP_16, __MOVBE__, __SSE4A__))
#define BATCHNORM_ABI_ISA_B \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_A, b, \
    BATCHNORM_DIGIT(__AVX__, __AVX2__, __FMA__, __F16C__), \
    BATCHNORM_DIGIT(__BMI__, __BMI2__, __LZCNT__, __ABM__), \
    BATCHNORM_DIGIT(__FMA4__, __XOP__, __TBM__, __LWP__), \
    BATCHNORM_DIGIT(__3dNOW__, __3dNOW_A__, __PRFCHW__, __RTM__))
#define BATCHNORM_ABI_ISA_C \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_B, c, \
    BATCHNORM_DIGIT(__AVX512F__, __AVX512VL__, __AVX512BW__, __AVX512DQ__), \
    BATCHNORM_DIGIT(__AVX512CD__, __AVX512ER__, __AVX512PF__, __AVX512IFMA__), \
    BATCHNORM_DIGIT(__AVX512VBMI__, __AVX512VBMI2__, __AVX512VNNI__, __AVX512BITALG__), \
    BATCHNORM_DIGIT(__AVX512VPOPCNTDQ__, __AVX512BF16__, __AVX512FP16__, __AVX512VP2INTERSECT__))
#define BATCHNORM_ABI_ISA_D \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_C, d, \
    BATCHNORM_DIGIT(__AVX5124FMAPS__, __AVX5124VNNIW__, __AES__, __PCLMUL__), \
    BATCHNORM_DIGIT(__GFNI__, __VAES__, __VPCLMULQDQ__, __SHA__), \
    BATCHNORM_DIGIT(__SHA512__, __SM3__, __SM4__, __AVXVNNI__), \
    BATCHNORM_DIGIT(__AVXVNNIINT8__, __AVXVNNIINT16__, __AVXIFMA__, __AVXNECONVERT__))
#define BATCHNORM_ABI_ISA_E \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_D, e, \
    BATCHNORM_DIGIT(__AVX10_1__, __AVX10_1_256__, __AVX10_1_512__, __AVX10_2__), \
    BATCHNORM_DIGIT(__AVX10_2_256__, __AVX10_2_512__, __EVEX256__, __EVEX512__), \
    BATCHNORM_DIGIT(__APX_F__, __EGPR__, __PUSH2POP2__, __PPX__), \
    BATCHNORM_DIGIT(__NDD__, __CCMP__, __NF__, __CF__))
#define BATCHNORM_ABI_ISA_F \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_E, f, \
    BATCHNORM_DIGIT(__AMX_TILE__, __AMX_INT8__, __AMX_BF16__, __AMX_FP16__), \
    BATCHNORM_DIGIT(__AMX_COMPLEX__, __AMX_AVX512__, __AMX_TF32__, __AMX_FP8__), \
    BATCHNORM_DIGIT(__AMX_TRANSPOSE__, __AMX_MOVRS__, __AMXTILE__, __AMXINT8__), \
    BATCHNORM_DIGIT(__AMXBF16__, __AMXFP16__, __AMXCOMPLEX__, __MOVRS__))
#define BATCHNORM_ABI_ISA_G \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_F, g, \
    BATCHNORM_DIGIT(__XSAVE__, __XSAVEOPT__, __XSAVEC__, __XSAVES__), \
    BATCHNORM_DIGIT(__ADX__, __RDRND__, __RDSEED__, __RDPID__), \
    BATCHNORM_DIGIT(__FSGSBASE__, __INVPCID__, __PTWRITE__, __SGX__), \
    BATCHNORM_DIGIT(__CLFLUSHOPT__, __CLWB__, __CLZERO__, __CLDEMOTE__))
#define BATCHNORM_ABI_ISA_H \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_G, h, \
    BATCHNORM_DIGIT(__PKU__, __SHSTK__, __WBNOINVD__, __WAITPKG__), \
    BATCHNORM_DIGIT(__MWAITX__, __RDPRU__, __MOVDIRI__, __MOVDIR64B__), \
    BATCHNORM_DIGIT(__ENQCMD__, __SERIALIZE__, __TSXLDTRK__, __UINTR__), \
    BATCHNORM_DIGIT(__HRESET__, __KL__, __WIDEKL__, __PCONFIG__))
#define BATCHNORM_ABI_ISA \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_H, i, \
    BATCHNORM_DIGIT(__PREFETCHWT1__, __PREFETCHI__, __CMPCCXADD__, __RAOINT__), \
    BATCHNORM_DIGIT(__USER_MSR__, __USERMSR__, __ZU__, 0), \
    BATCHNORM_DIGIT(0, 0, 0, 0), \
    BATCHNORM_DIGIT(0, 0, 0, 0))
#elif defined(__aarch64__) || defined(__arm__)
#define BATCHNORM_ABI_ISA_A \
  BATCHNORM_GROUP(BATCHNORM_ABI_WORD, a, \
    BATCHNORM_DIGIT(__ARM_NEON, __ARM_FEATURE_FMA, \
                    __ARM_FEATURE_FP16_SCALAR_ARITHMETIC, __ARM_FEATURE_FP16_VECTOR_ARITHMETIC), \
    BATCHNORM_DIGIT(__ARM_FEATURE_FP16_FML, __ARM_FEATURE_BF16_SCALAR_ARITHMETIC, \
                    __ARM_FEATURE_BF16_VECTOR_ARITHMETIC, __ARM_FEATURE_DOTPROD), \
    BATCHNORM_DIGIT(__ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_QRDMX, __ARM_FEATURE_COMPLEX, __ARM_FEATURE_JCVT), \
    BATCHNORM_DIGIT(__ARM_FEATURE_FRINT, __ARM_FEATURE_ATOMICS, __ARM_FEATURE_RCPC, __ARM_FEATURE_CRC32))
#define BATCHNORM_ABI_ISA_B \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_A, b, \
    BATCHNORM_DIGIT(__ARM_FEATURE_SVE, __ARM_FEATURE_SVE2, __ARM_FEATURE_SVE_BF16, __ARM_FEATURE_SVE_MATMUL_INT8), \
    BATCHNORM_DIGIT(__ARM_FEATURE_SVE_MATMUL_FP32, __ARM_FEATURE_SVE_MATMUL_FP64, \
                    __ARM_FEATURE_SVE2_AES, __ARM_FEATURE_SVE2_BITPERM), \
    BATCHNORM_DIGIT(__ARM_FEATURE_SVE2_SHA3, __ARM_FEATURE_SVE2_SM4, __ARM_FEATURE_SVE2p1, __ARM_FEATURE_SVE_B16B16), \
    BATCHNORM_DIGIT(__ARM_FEATURE_SME, __ARM_FEATURE_SME2, __ARM_FEATURE_SME_F64F64, __ARM_FEATURE_SME_I16I64))
#define BATCHNORM_ABI_ISA_C \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_B, c, \
    BATCHNORM_DIGIT(__ARM_FEATURE_CRYPTO, __ARM_FEATURE_AES, __ARM_FEATURE_SHA2, __ARM_FEATURE_SHA3), \
    BATCHNORM_DIGIT(__ARM_FEATURE_SHA512, __ARM_FEATURE_SM3, __ARM_FEATURE_SM4, __ARM_FEATURE_RNG), \
    BATCHNORM_DIGIT(__ARM_FEATURE_MEMORY_TAGGING, __ARM_FEATURE_TME, __ARM_FEATURE_LS64, __ARM_FEATURE_MOPS), \
    BATCHNORM_DIGIT(__ARM_FEATURE_PAUTH, __ARM_FEATURE_BTI, __ARM_FEATURE_SYSREG128, __ARM_FEATURE_LSE128))
#define BATCHNORM_ABI_ISA \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_C, d, \
    BATCHNORM_DIGIT(__ARM_ARCH_ISA_ARM, __ARM_FEATURE_IDIV, __ARM_FEATURE_DSP, __ARM_FEATURE_SAT), \
    BATCHNORM_DIGIT(__ARM_FEATURE_QBIT, __ARM_FEATURE_SIMD32, __ARM_FEATURE_UNALIGNED, __ARM_FEATURE_CLZ), \
    BATCHNORM_DIGIT(__ARM_FP16_FORMAT_IEEE, __ARM_FP16_ARGS, __thumb2__, 0), \
    BATCHNORM_DIGIT(0, 0, 0, 0))
#elif defined(__riscv)
#define BATCHNORM_ABI_ISA_A \
  BATCHNORM_GROUP(BATCHNORM_ABI_WORD, a, \
    BATCHNORM_DIGIT(__riscv_compressed, __riscv_mul, __riscv_div, __riscv_atomic), \
    BATCHNORM_DIGIT(__riscv_fdiv, __riscv_fsqrt, __riscv_vector, __riscv_f), \
    BATCHNORM_DIGIT(__riscv_d, __riscv_zfh, __riscv_zfhmin, __riscv_zvfh), \
    BATCHNORM_DIGIT(__riscv_zvfhmin, __riscv_zba, __riscv_zbb, __riscv_zbs))
#define BATCHNORM_ABI_ISA \
  BATCHNORM_GROUP(BATCHNORM_ABI_ISA_A, b, \
    BATCHNORM_DIGIT(__riscv_zbc, __riscv_zbkb, __riscv_zbkc, __riscv_zbkx), \
    BATCHNORM_DIGIT(__riscv_zicond, __riscv_zfa, __riscv_zacas, __riscv_zabha), \
    BATCHNORM_DIGIT(__riscv_zvbb, __riscv_zvbc, __riscv_zvkb, __riscv_zicbop), \
    BATCHNORM_DIGIT(__riscv_zicboz, __riscv_zcb, __riscv_zfbfmin, __riscv_zifencei))
#else
#define BATCHNORM_ABI_ISA \
  BATCHNORM_GROUP(BATCHNORM_ABI_WORD, a, \
    BATCHNORM_DIGIT(__ALTIVEC__, __VSX__, __POWER8_VECTOR__, __POWER9_VECTOR__), \
    BATCHNORM_DIGIT(_ARCH_PWR8, _ARCH_PWR9, _ARCH_PWR10, __MMA__), \
    BATCHNORM_DIGIT(__wasm_simd128__, __wasm_relaxed_simd__, __loongarch_sx, __loongarch_asx), \
    BATCHNORM_DIGIT(__mips_msa, 0, 0, 0))
#endif
// clang-format on

// Vectors of SVE or RISC-V whose length the compiler was told.
#if defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define BATCHNORM_ABI_LENGTH BATCHNORM_PASTE(BATCHNORM_PASTE(BATCHNORM_ABI_ISA, _bits), __ARM_FEATURE_SVE_BITS)
#elif defined(__riscv_v_fixed_vlen)
#define BATCHNORM_ABI_LENGTH BATCHNORM_PASTE(BATCHNORM_PASTE(BATCHNORM_ABI_ISA, _bits), __riscv_v_fixed_vlen)
#elif defined(__riscv_v_min_vlen)
#define BATCHNORM_ABI_LENGTH BATCHNORM_PASTE(BATCHNORM_PASTE(BATCHNORM_ABI_ISA, _least), __riscv_v_min_vlen)
#else
#define BATCHNORM_ABI_LENGTH BATCHNORM_ABI_ISA
#endif

// Plain loops instead of vector types.
#ifdef BATCHNORM_PORTABLE
#define BATCHNORM_ABI_LOOPS BATCHNORM_PASTE(BATCHNORM_ABI_LENGTH, _portable)
#else
#define BATCHNORM_ABI_LOOPS BATCHNORM_ABI_LENGTH
#endif

// GCC for Windows with leave to choose AVX at run time (detail/simd/isa.hpp).
#if defined(_WIN32) && defined(BATCHNORM_WINDOWS_AVX)
#define BATCHNORM_ABI_CHOICE BATCHNORM_PASTE(BATCHNORM_ABI_LOOPS, _winavx)
#else
#define BATCHNORM_ABI_CHOICE BATCHNORM_ABI_LOOPS
#endif

// --- Arithmetic: leave to compute something else, zeros whose sign may be lost, and numbers of more digits than their
// type has, of x87.

#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ > 0
#define BATCHNORM_EXCESS_PRECISION 1
#else
#define BATCHNORM_EXCESS_PRECISION 0
#endif

#if !(defined(_MSC_VER) && !defined(__clang__))
#define BATCHNORM_ABI_MATH                                                                                        \
  BATCHNORM_GROUP(BATCHNORM_ABI_CHOICE, math,                                                                     \
                  BATCHNORM_DIGIT(BATCHNORM_FAST_MATH, __FAST_MATH__, __ASSOCIATIVE_MATH__, __RECIPROCAL_MATH__), \
                  BATCHNORM_DIGIT(__FINITE_MATH_ONLY__, __NO_SIGNED_ZEROS__, BATCHNORM_EXCESS_PRECISION, 0), 0, 0)
#elif BATCHNORM_FAST_MATH
#define BATCHNORM_ABI_MATH BATCHNORM_PASTE(BATCHNORM_ABI_CHOICE, _fast)
#else
#define BATCHNORM_ABI_MATH BATCHNORM_ABI_CHOICE
#endif

// --- Exceptions.

#if BATCHNORM_EXCEPTIONS
#define BATCHNORM_ABI_EXCEPTIONS BATCHNORM_ABI_MATH
#else
#define BATCHNORM_ABI_EXCEPTIONS BATCHNORM_PASTE(BATCHNORM_ABI_MATH, _noexcept)
#endif

// --- Eigen's vectors and tensors, of which layers are made, are indexed by the type that this macro of Eigen's names.
// Its first word goes into the name, unless that is std, of Eigen's own std::ptrdiff_t. (A word that is not listed here
// goes into the name as BATCHNORM_INDEX_<word>, which tells it apart as well.)

#define BATCHNORM_INDEX_std _std,
#define BATCHNORM_INDEX_long _long,
#define BATCHNORM_INDEX_int _int,
#define BATCHNORM_INDEX_short _short,
#define BATCHNORM_INDEX_signed _signed,
#define BATCHNORM_INDEX_WORD_(type) BATCHNORM_FIRST(BATCHNORM_INDEX_##type)
#define BATCHNORM_INDEX_WORD(type) BATCHNORM_INDEX_WORD_(type)
#define BATCHNORM_APPEND_INDEX_std ~, BATCHNORM_KEEP
#define BATCHNORM_APPEND_INDEX_(name, word) BATCHNORM_SECOND(BATCHNORM_APPEND_INDEX##word, BATCHNORM_PASTE)(name, word)
#define BATCHNORM_APPEND_INDEX(name, word) BATCHNORM_APPEND_INDEX_(name, word)
#ifdef EIGEN_DEFAULT_DENSE_INDEX_TYPE
#define BATCHNORM_ABI_INDEX BATCHNORM_INDEX_WORD(EIGEN_DEFAULT_DENSE_INDEX_TYPE)
#else
#define BATCHNORM_ABI_INDEX _std
#endif

#define BATCHNORM_ABI BATCHNORM_APPEND_INDEX(BATCHNORM_ABI_EXCEPTIONS, BATCHNORM_ABI_INDEX)

#endif  // BATCHNORM_DETAIL_INTERFACE_ABI_HPP
