// Dropout (Srivastava et al. 2014): in training each value is set to 0 with some probability, and the others are scaled
// up so that the expected value stays. Inference leaves it out.

#ifndef WHY_BATCH_NORM_DROPOUT_HPP
#define WHY_BATCH_NORM_DROPOUT_HPP

#include "batch.hpp"
#include "random.hpp"

namespace why_batch_norm {

// Draws a mask of x's shape, which holds 0 or 1 / (1 - probability), and multiplies x by it in place.
template <typename T>
void dropout_forward(double probability, Random& random, Batch<T>& x, Batch<T>& mask) {
  mask.resize(x.dimensions());
  const T kept = static_cast<T>(1 / (1 - probability));
  for (Index i = 0; i < mask.size(); ++i) mask.data()[i] = random.uniform() < probability ? T(0) : kept;
  matrix(x).array() *= matrix(mask).array();
}

// In place: dy becomes the gradient by x.
template <typename T>
void dropout_backward(const Batch<T>& mask, Batch<T>& dy) {
  matrix(dy).array() *= matrix(mask).array();
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_DROPOUT_HPP
