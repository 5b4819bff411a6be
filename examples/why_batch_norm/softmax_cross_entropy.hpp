// Softmax and cross-entropy in one: the loss of a classifier.

#ifndef WHY_BATCH_NORM_SOFTMAX_CROSS_ENTROPY_HPP
#define WHY_BATCH_NORM_SOFTMAX_CROSS_ENTROPY_HPP

#include <cassert>
#include <cmath>
#include <cstddef>
#include <vector>

#include "batch.hpp"

namespace why_batch_norm {

// The mean over the batch of -log softmax(logits)[label]. Sets dlogits to its gradient,
// (softmax(logits) - one_hot(label)) / samples.
template <typename T>
T softmax_cross_entropy(const Batch<T>& logits, const std::vector<int>& labels, Batch<T>& dlogits) {
  assert(static_cast<Index>(labels.size()) == logits.dimension(0));
  dlogits.resize(logits.dimensions());
  auto gradient = matrix(dlogits);
  const T samples = static_cast<T>(gradient.rows());
  T loss = 0;
  for (Index row = 0; row < gradient.rows(); ++row) {
    const int label = labels[static_cast<std::size_t>(row)];
    // Subtracting the largest logit first leaves the softmax as it is and keeps exp from overflowing.
    gradient.row(row) = matrix(logits).row(row).array() - matrix(logits).row(row).maxCoeff();
    const T shifted_label_logit = gradient(row, label);
    gradient.row(row) = gradient.row(row).array().exp();
    const T sum = gradient.row(row).sum();
    loss += std::log(sum) - shifted_label_logit;
    gradient.row(row) /= sum * samples;
    gradient(row, label) -= 1 / samples;
  }
  return loss / samples;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_SOFTMAX_CROSS_ENTROPY_HPP
