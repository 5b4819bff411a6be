// The fused and weighted kernels of each scalar type that has vector kernels: the units of tests that include this
// leave them to fused_kernels.cpp, as they leave the plain ones to kernels.cpp. To be included after the library.

#ifndef BATCHNORM_TESTS_FUSED_KERNELS_HPP
#define BATCHNORM_TESTS_FUSED_KERNELS_HPP

#include <batchnorm/batchnorm.hpp>

// Explicit instantiations of RUN, as in batchnorm/detail/kernels/instances.hpp.
#define BATCHNORM_FUSED_KERNELS_OF(TEMPLATE, RUN, T)                                                                 \
  TEMPLATE void RUN<NormalizeFused>(const View&, const Tile&, const NormalizeArrays<double>&, const Operands<T, 2>&, \
                                    const FusedSettings<double>&, const Access&);                                    \
  TEMPLATE void RUN<AccumulateGradientsFused>(const View&, const Tile&, const Elements<const T>(&)[3],               \
                                              const double* const&, const bool&, const NormalizeArrays<double>&,     \
                                              const FusedSettings<double>&, const Prefetches&,                       \
                                              const GradientSumArrays<double>&);                                     \
  TEMPLATE void RUN<ApplyGradientsFused>(const View&, const Tile&, const GradientArrays<double>&,                    \
                                         const NormalizeArrays<double>&, const Operands<T, 3, 2>&,                   \
                                         const FusedSettings<double>&, const Access&);                               \
  TEMPLATE void RUN<AccumulateWeightedMoments>(const View&, const Tile&, const Elements<const T>(&)[2],              \
                                               const PivotPlaces&, const Prefetch&,                                  \
                                               const WeightedMomentSums<double>&);                                   \
  TEMPLATE void RUN<AccumulateWeightedGradients>(const View&, const Tile&, const Elements<const T>(&)[4],            \
                                                 const NormalizeArrays<double>&, const WeightedSettings<double>&,    \
                                                 const Prefetches&, const GradientSumArrays<double>&);               \
  TEMPLATE void RUN<ApplyWeightedGradients>(const View&, const Tile&, const WeightedGradientArrays<double>&,         \
                                            const NormalizeArrays<double>&, const Operands<T, 4, 2>&,                \
                                            const WeightedSettings<double>&, const Access&);

#define BATCHNORM_FUSED_KERNELS_BY(TEMPLATE, RUN)        \
  BATCHNORM_FUSED_KERNELS_OF(TEMPLATE, RUN, float)       \
  BATCHNORM_FUSED_KERNELS_OF(TEMPLATE, RUN, double)      \
  BATCHNORM_FUSED_KERNELS_OF(TEMPLATE, RUN, Eigen::half) \
  BATCHNORM_FUSED_KERNELS_OF(TEMPLATE, RUN, Eigen::bfloat16)

#if BATCHNORM_X86_DISPATCH
#define BATCHNORM_FUSED_KERNELS(TEMPLATE)            \
  BATCHNORM_FUSED_KERNELS_BY(TEMPLATE, run_baseline) \
  BATCHNORM_FUSED_KERNELS_BY(TEMPLATE, run_avx2)     \
  BATCHNORM_FUSED_KERNELS_BY(TEMPLATE, run_avx512)
#else
#define BATCHNORM_FUSED_KERNELS(TEMPLATE) BATCHNORM_FUSED_KERNELS_BY(TEMPLATE, run_baseline)
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
#ifdef BATCHNORM_TESTS_COMPILE_FUSED_KERNELS
BATCHNORM_FUSED_KERNELS(template)
#else
BATCHNORM_FUSED_KERNELS(extern template)
#endif
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_TESTS_FUSED_KERNELS_HPP
