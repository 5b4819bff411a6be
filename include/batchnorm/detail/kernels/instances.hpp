// The kernels of each scalar type that has vector kernels, by name: a unit can leave them to another to compile.

#ifndef BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP
#define BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP

#include "batchnorm/detail/kernels/accumulate_gradients.hpp"
#include "batchnorm/detail/kernels/accumulate_moments.hpp"
#include "batchnorm/detail/kernels/apply_gradients.hpp"
#include "batchnorm/detail/kernels/normalize.hpp"
#include "batchnorm/detail/simd/isa.hpp"

// Explicit instantiations of RUN, one of the functions that run a kernel: definitions, or declarations where LINKAGE is
// extern.
#define BATCHNORM_KERNELS_OF(LINKAGE, RUN, T)                                                                         \
  LINKAGE template void RUN<AccumulateMoments<summand_t<T>>>(const View&, const Tile&, const T* const&,               \
                                                             const Prefetch&, const MomentSums<double>&);             \
  LINKAGE template void RUN<Normalize>(const View&, const Tile&, const NormalizeArrays<double>&, const T* const&,     \
                                       T* const&, const Access&);                                                     \
  LINKAGE template void RUN<AccumulateGradients>(const View&, const Tile&, const T* const&, const T* const&,          \
                                                 const double* const&, const bool&, const Prefetches&,                \
                                                 const GradientSumArrays<double>&);                                   \
  LINKAGE template void RUN<ApplyGradients>(const View&, const Tile&, const GradientArrays<double>&, const T* const&, \
                                            const T* const&, T* const&, const Access&);

// The last is for Moments.
#define BATCHNORM_KERNELS_BY(LINKAGE, RUN)                                                                             \
  BATCHNORM_KERNELS_OF(LINKAGE, RUN, float)                                                                            \
  BATCHNORM_KERNELS_OF(LINKAGE, RUN, double)                                                                           \
  BATCHNORM_KERNELS_OF(LINKAGE, RUN, Eigen::half)                                                                      \
  BATCHNORM_KERNELS_OF(LINKAGE, RUN, Eigen::bfloat16)                                                                  \
  LINKAGE template void RUN<AccumulateMoments<double>>(const View&, const Tile&, const float* const&, const Prefetch&, \
                                                       const MomentSums<double>&);

#if BATCHNORM_X86_DISPATCH
#define BATCHNORM_KERNELS(LINKAGE)            \
  BATCHNORM_KERNELS_BY(LINKAGE, run_baseline) \
  BATCHNORM_KERNELS_BY(LINKAGE, run_avx2)     \
  BATCHNORM_KERNELS_BY(LINKAGE, run_avx512)
#else
#define BATCHNORM_KERNELS(LINKAGE) BATCHNORM_KERNELS_BY(LINKAGE, run_baseline)
#endif

#ifdef BATCHNORM_EXTERN_KERNELS
BATCHNORM_NAMESPACE_BEGIN
namespace detail {
BATCHNORM_KERNELS(extern)
}  // namespace detail
BATCHNORM_NAMESPACE_END
#endif

#endif  // BATCHNORM_DETAIL_KERNELS_INSTANCES_HPP
