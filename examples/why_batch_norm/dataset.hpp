// Images with their classes.

#ifndef WHY_BATCH_NORM_DATASET_HPP
#define WHY_BATCH_NORM_DATASET_HPP

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <numeric>
#include <string>
#include <vector>

#include "batch.hpp"

namespace why_batch_norm {

struct Examples {
  Batch<float> images;      // [samples, height * width], 0 (black) to 1 (white), rows from top to bottom
  std::vector<int> labels;  // the class of each image, from 0

  std::size_t size() const { return labels.size(); }
};

struct Dataset {
  std::string name;
  Index height = 0;
  Index width = 0;
  Index classes = 0;
  Examples train;
  Examples validation;  // held out from the training images: it chooses learning rates
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

// The examples numbered begin to end - 1, as far as there are so many.
inline Examples range_of(const Examples& from, std::size_t begin, std::size_t end) {
  std::vector<std::size_t> order(from.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  end = std::min(end, order.size());
  Examples result;
  gather(from, order, std::min(begin, end), end, result);
  return result;
}

// Images whose every pixel is the mean of factor * factor pixels of before.
inline Batch<float> shrunk(const Batch<float>& images, Index height, Index width, Index factor) {
  const Index rows = height / factor;
  const Index columns = width / factor;
  Batch<float> result(images.dimension(0), rows * columns);
  for (Index image = 0; image < images.dimension(0); ++image) {
    const Eigen::Map<const Matrix<float>> from(images.data() + image * height * width, height, width);
    Eigen::Map<Matrix<float>> to(result.data() + image * rows * columns, rows, columns);
    for (Index row = 0; row < rows; ++row) {
      for (Index column = 0; column < columns; ++column) {
        to(row, column) = from.block(row * factor, column * factor, factor, factor).mean();
      }
    }
  }
  return result;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_DATASET_HPP
