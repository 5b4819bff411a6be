// Images of digits with their labels.

#ifndef TRAIN_DIGITS_DATASET_HPP
#define TRAIN_DIGITS_DATASET_HPP

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <string>
#include <vector>

#include "batch.hpp"

namespace train_digits {

constexpr int digit_count = 10;

struct Examples {
  Batch<float> images;      // [samples, height * width], ink 0 (none) to 1 (full), rows from top to bottom
  std::vector<int> labels;  // 0 to 9, one per image

  std::size_t size() const { return labels.size(); }
};

struct Dataset {
  std::string name;
  Index height = 0;
  Index width = 0;
  Examples train;
  Examples test;
};

// Copies the examples numbered order[begin] to order[end - 1] into batch, which keeps its memory from call to call.
inline void gather(const Examples& from, const std::vector<std::size_t>& order, std::size_t begin, std::size_t end,
                   Examples& batch) {
  assert(begin <= end && end <= order.size());
  const Index pixels = from.images.dimension(1);
  batch.images.resize(static_cast<Index>(end - begin), pixels);
  batch.labels.resize(end - begin);
  for (std::size_t i = begin; i < end; ++i) {
    const Index source = static_cast<Index>(order[i]);
    const Index target = static_cast<Index>(i - begin);
    matrix(batch.images).row(target) = matrix(from.images).row(source);
    batch.labels[i - begin] = from.labels[order[i]];
  }
}

// The first count examples; all of them where there are no more.
inline Examples first_examples(const Examples& from, std::size_t count) {
  std::vector<std::size_t> order(std::min(count, from.size()));
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  Examples result;
  gather(from, order, 0, order.size(), result);
  return result;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_DATASET_HPP
