// What stands between the passes of a layer whose batch is split over processes.

#ifndef BATCHNORM_DETAIL_SYNCHRONIZER_HPP
#define BATCHNORM_DETAIL_SYNCHRONIZER_HPP

#include "batchnorm/detail/algebra/extended.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// What a forward has found of its part of the batch, and then what it is of the whole.
template <class A>
struct BatchTotals {
  Index channels;
  Index values;  ///< per channel, of weight above 0
  Index samples;
  A weight;  ///< the sum of the weights
  MomentArrays<A> moments;
};

/// Merges over the processes, by pointers: a layer that is not synchronized has none of it compiled.
template <class A>
struct Synchronizer {
  void* self = nullptr;
  void (*merge_moments)(void* self, BatchTotals<A>& totals) = nullptr;
  /// The sums of dy and of dy (x - mean), [channels] each, about the mean of the whole batch.
  void (*merge_gradients)(void* self, A* dy, A* products, Index channels) = nullptr;
  bool sums_parameter_grads = false;  ///< whether the gradients of weight and bias are those of the whole batch
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SYNCHRONIZER_HPP
