// A folder with images in IDX files, or digits that the program draws, cut to what the runs need.

#ifndef WHY_BATCH_NORM_LOAD_DATASET_HPP
#define WHY_BATCH_NORM_LOAD_DATASET_HPP

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bad_input.hpp"
#include "dataset.hpp"
#include "draw_digits.hpp"
#include "read_idx.hpp"

namespace why_batch_norm {

// Which part of the images is used.
struct DatasetLimits {
  std::size_t train = 60000;
  std::size_t validation = 5000;  // the last ones of the training file
  std::size_t test = 10000;
};

namespace detail {

// These files come as train-images-idx3-ubyte and, from some unpackers, as train-images.idx3-ubyte; with .gz or
// without.
inline std::filesystem::path idx_path(const std::filesystem::path& folder, const std::string& stem,
                                      const std::string& kind) {
  for (const char* separator : {"-", "."}) {
    for (const char* ending : {"", ".gz"}) {
      const std::filesystem::path path = folder / (stem + separator + kind + ending);
      if (std::filesystem::exists(path)) return path;
    }
  }
  throw BadInput(folder.string() + ": expected a file " + stem + "-" + kind + " or " + stem + "-" + kind +
                 ".gz, found none");
}

struct SizedExamples {
  Index height;
  Index width;
  Examples examples;
};

inline SizedExamples load_idx(const std::filesystem::path& folder, const std::string& part) {
  const std::filesystem::path image_file = idx_path(folder, part + "-images", "idx3-ubyte");
  const std::filesystem::path label_file = idx_path(folder, part + "-labels", "idx1-ubyte");
  IdxImages images = read_idx_images(image_file);
  std::vector<int> labels = read_idx_labels(label_file);
  if (static_cast<Index>(labels.size()) != images.images.dimension(0)) {
    throw BadInput(label_file.string() + ": expected " + std::to_string(images.images.dimension(0)) +
                   " labels, one for each image in " + image_file.filename().string() + ", got " +
                   std::to_string(labels.size()));
  }
  return {images.height, images.width, {std::move(images.images), std::move(labels)}};
}

}  // namespace detail

// The four IDX files of a folder, whole. Throws BadInput where the folder or a file in it is missing or malformed.
inline Dataset load_dataset(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw BadInput(folder.string() + ": expected a folder with images, found none");
  }
  detail::SizedExamples train = detail::load_idx(folder, "train");
  detail::SizedExamples test = detail::load_idx(folder, "t10k");
  if (test.height != train.height || test.width != train.width) {
    throw BadInput(folder.string() + ": expected test images of " + std::to_string(train.height) + " x " +
                   std::to_string(train.width) + " pixels like the training images, got " +
                   std::to_string(test.height) + " x " + std::to_string(test.width));
  }
  int largest = 0;
  for (const std::vector<int>* labels : {&train.examples.labels, &test.examples.labels}) {
    largest = std::max(largest, *std::max_element(labels->begin(), labels->end()));
  }
  return {std::filesystem::canonical(folder).filename().string(),
          train.height,
          train.width,
          static_cast<Index>(largest) + 1,
          std::move(train.examples),
          {},
          std::move(test.examples)};
}

// Holds out the validation images and leaves out what is beyond the limits. Throws BadInput where too little is left.
inline Dataset limited(Dataset data, const DatasetLimits& limits) {
  const std::size_t validation = std::min(limits.validation, data.train.size() / 10);
  const std::size_t rest = data.train.size() - validation;
  data.validation = range_of(data.train, rest, data.train.size());
  data.train = range_of(data.train, 0, std::min(limits.train, rest));
  data.test = range_of(data.test, 0, limits.test);
  if (data.train.size() < 2 || data.validation.size() < 1 || data.test.size() < 1) {
    throw BadInput(data.name + ": expected at least 2 images to train on, 1 to validate and 1 to test, got " +
                   std::to_string(data.train.size()) + ", " + std::to_string(data.validation.size()) + " and " +
                   std::to_string(data.test.size()));
  }
  return data;
}

// The same with images of at least `side` pixels a side, averaged down by a whole factor; as they are where side is 0
// or the images are not twice as large.
inline Dataset shrunk(Dataset data, Index side) {
  const Index factor = side == 0 ? 1 : std::min(data.height, data.width) / side;
  if (factor < 2) return data;
  for (Examples* part : {&data.train, &data.validation, &data.test}) {
    part->images = shrunk(part->images, data.height, data.width, factor);
  }
  data.height /= factor;
  data.width /= factor;
  return data;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_LOAD_DATASET_HPP
