// The kernels of each scalar type that has vector kernels, by name: a unit can leave them to another to compile.

#ifndef BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP
#define BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP

#include "batchnorm/detail/kernels/accumulate_gradients.hpp"
#include "batchnorm/detail/kernels/accumulate_moments.hpp"
#include "batchnorm/detail/kernels/apply_gradients.hpp"
#include "batchnorm/detail/kernels/normalize.hpp"
#include "batchnorm/detail/simd/isa.hpp"

// Explicit instantiations of RUN, one of the functions that run a kernel: TEMPLATE is `template` for definitions, and
// `extern template` for declarations.
#define BATCHNORM_KERNELS_OF(TEMPLATE, RUN, T)                                                                         \
  TEMPLATE void RUN<AccumulateMoments<summand_t<T>>>(const View&, const Tile&, const Elements<const T>&,               \
                                                     const Prefetch&, const MomentSums<double>&);                      \
  TEMPLATE void RUN<Normalize>(const View&, const Tile&, const NormalizeArrays<double>&, const Operands<T, 1>&,        \
                               const Access&);                                                                         \
  TEMPLATE void RUN<AccumulateGradients>(const View&, const Tile&, const Elements<const T>&, const Elements<const T>&, \
                                         const double* const&, const bool&, const Prefetches&,                         \
                                         const GradientSumArrays<double>&);                                            \
  TEMPLATE void RUN<ApplyGradients>(const View&, const Tile&, const GradientArrays<double>&, const Operands<T, 2>&,    \
                                    const Access&);

// The last is for Moments.
#define BATCHNORM_KERNELS_BY(TEMPLATE, RUN)                                                            \
  BATCHNORM_KERNELS_OF(TEMPLATE, RUN, float)                                                           \
  BATCHNORM_KERNELS_OF(TEMPLATE, RUN, double)                                                          \
  BATCHNORM_KERNELS_OF(TEMPLATE, RUN, Eigen::half)                                                     \
  BATCHNORM_KERNELS_OF(TEMPLATE, RUN, Eigen::bfloat16)                                                 \
  TEMPLATE void RUN<AccumulateMoments<double>>(const View&, const Tile&, const Elements<const float>&, \
                                               const Prefetch&, const MomentSums<double>&);

#if BATCHNORM_X86_DISPATCH
#define BATCHNORM_KERNELS(TEMPLATE)            \
  BATCHNORM_KERNELS_BY(TEMPLATE, run_baseline) \
  BATCHNORM_KERNELS_BY(TEMPLATE, run_avx2)     \
  BATCHNORM_KERNELS_BY(TEMPLATE, run_avx512)
#else
#define BATCHNORM_KERNELS(TEMPLATE) BATCHNORM_KERNELS_BY(TEMPLATE, run_baseline)
#endif

// A program without the unit that compiles the kernels does not link, and what the linker then misses says so by its
// name: a function that kernels.hpp defines beside the kernels, and to which every unit refers that leaves them to
// another. (The namespace tells of flags that differ.)
BATCHNORM_NAMESPACE_BEGIN
namespace detail {
template <class>
void batchnorm_kernels_are_missing_include_batchnorm_kernels_hpp_in_one_unit() {}
}  // namespace detail
BATCHNORM_NAMESPACE_END

#if defined(__GNUC__) || defined(__clang__)
#define BATCHNORM_USED __attribute__((used))
#else
#define BATCHNORM_USED
#endif

#ifdef BATCHNORM_EXTERN_KERNELS
BATCHNORM_NAMESPACE_BEGIN
namespace detail {
BATCHNORM_KERNELS(extern template)
extern template void batchnorm_kernels_are_missing_include_batchnorm_kernels_hpp_in_one_unit<void>();
BATCHNORM_USED inline void (*const kernels_unit)() =
    &batchnorm_kernels_are_missing_include_batchnorm_kernels_hpp_in_one_unit<void>;
}  // namespace detail
BATCHNORM_NAMESPACE_END
#endif

#endif  // BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP
