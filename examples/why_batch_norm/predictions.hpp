// What a network makes of images.

#ifndef WHY_BATCH_NORM_PREDICTIONS_HPP
#define WHY_BATCH_NORM_PREDICTIONS_HPP

#include <algorithm>
#include <cstddef>
#include <vector>

#include "batch.hpp"

namespace why_batch_norm {

// The class of the largest logit of each sample.
inline std::vector<int> predictions(const Batch<float>& logits) {
  std::vector<int> classes(static_cast<std::size_t>(logits.dimension(0)));
  for (std::size_t i = 0; i < classes.size(); ++i) {
    const float* row = logits.data() + static_cast<Index>(i) * logits.dimension(1);
    classes[i] = static_cast<int>(std::max_element(row, row + logits.dimension(1)) - row);
  }
  return classes;
}

inline std::size_t count_equal(const std::vector<int>& a, const std::vector<int>& b) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] == b[i] ? 1U : 0U;
  return count;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_PREDICTIONS_HPP
