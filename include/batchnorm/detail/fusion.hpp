// What a call of a layer adds to the four primitives: an activation, a residual, and their gradients.

#ifndef BATCHNORM_DETAIL_FUSION_HPP
#define BATCHNORM_DETAIL_FUSION_HPP

#include <vector>

#include "batchnorm/detail/kernels/fused.hpp"
#include "batchnorm/detail/primitives.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The primitives' extended variants over one tile, by pointers: what calls them need not have them compiled.
template <class T>
struct FusedKernels {
  using A = accumulator_t<T>;
  void (*normalize)(const View&, const Tile&, const Prefetches&, const NormalizeArrays<A>&, const Operands<T, 2>&,
                    const FusedSettings<A>&);
  void (*accumulate_gradients)(const View&, const Tile&, const Prefetches&, const Elements<const T> (&)[3],
                               const A* means, bool own_means, const NormalizeArrays<A>& forward,
                               const FusedSettings<A>&, const GradientSumArrays<A>&);
  void (*apply_gradients)(const View&, const Tile&, const Prefetches&, const GradientArrays<A>&,
                          const NormalizeArrays<A>& forward, const Operands<T, 3, 2>&, const FusedSettings<A>&);
};

template <class T>
struct FusedTiles {
  using A = accumulator_t<T>;

  static void normalize(const View& view, const Tile& tile, const Prefetches& prefetches,
                        const NormalizeArrays<A>& coefficients, const Operands<T, 2>& tensors,
                        const FusedSettings<A>& settings) {
    const Access access{should_stream(view, tensors), prefetches};
    run_elementwise(view, tile, tensors, [&](const View& v, const Tile& t, Index c, const Operands<T, 2>& operands) {
      run_kernel<NormalizeFused, T>(best_isa(), v, t, from_channel(coefficients, c), operands, settings, access);
    });
  }

  static void accumulate_gradients(const View& view, const Tile& tile, const Prefetches& prefetches,
                                   const Elements<const T> (&tensors)[3], const A* means, bool own_means,
                                   const NormalizeArrays<A>& forward, const FusedSettings<A>& settings,
                                   const GradientSumArrays<A>& sums) {
    run_kernel<AccumulateGradientsFused, T>(best_isa(), view, tile, tensors, means, own_means, forward, settings,
                                            prefetches, sums);
  }

  // `coefficients` and `forward` are those of the tile's channels.
  static void apply_gradients(const View& view, const Tile& tile, const Prefetches& prefetches,
                              const GradientArrays<A>& coefficients, const NormalizeArrays<A>& forward,
                              const Operands<T, 3, 2>& tensors, const FusedSettings<A>& settings) {
    const Access access{should_stream(view, tensors), prefetches};
    run_elementwise(view, tile, tensors, [&](const View& v, const Tile& t, Index c, const Operands<T, 3, 2>& operands) {
      run_kernel<ApplyGradientsFused, T>(best_isa(), v, t, from_channel(coefficients, c), from_channel(forward, c),
                                         operands, settings, access);
    });
  }
};

template <class T>
inline constexpr FusedKernels<T> fused_kernels{FusedTiles<T>::normalize, FusedTiles<T>::accumulate_gradients,
                                               FusedTiles<T>::apply_gradients};

template <class T, int Dims>
struct ExtendedTable;
template <class T>
struct PositionWeights;
template <class P>
struct Parameters;

/// What extended passes work with: of each group how many values take part and what they weigh, of a group's channels
/// the moments, and of all groups together what enters the running statistics.
template <class A>
struct ExtendedScratch {
  std::vector<Index> values{}, samples{};
  std::vector<A> weight{}, own_weight{}, moments{}, pooled{}, mean{}, variance{};
};

/// What a forward adds. Without kernels it is a plain one. The pointers of what needs extended passes are null without
/// it: those passes, a mask or weights, and the call's own weight and bias.
template <class T, int Dims>
struct ForwardExtras {
  const FusedKernels<T>* kernels = nullptr;
  bool has_residual = false;
  TensorView<const T, Dims> residual{};
  const ExtendedTable<T, Dims>* extended = nullptr;
  const PositionWeights<T>* weights = nullptr;
  const Parameters<const param_t<T>>* parameters = nullptr;
};

/// The tensors of a backward; an output or a residual's gradient that is not there has no data.
template <class T>
struct GradientTensors {
  View view;
  Elements<const T> x, dy, output;
  Elements<T> dx, residual_grad;
};

/// What a backward adds. The call's own gradients of weight and bias are laid out as these.
template <class T, int Dims>
struct BackwardExtras {
  const FusedKernels<T>* kernels = nullptr;
  bool has_output = false, has_residual_grad = false;
  TensorView<const T, Dims> output{};
  TensorView<T, Dims> residual_grad{};
  const ExtendedTable<T, Dims>* extended = nullptr;
  const PositionWeights<T>* weights = nullptr;
  const Parameters<const param_t<T>>* parameters = nullptr;
  const Parameters<param_t<T>>* parameter_grads = nullptr;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FUSION_HPP
