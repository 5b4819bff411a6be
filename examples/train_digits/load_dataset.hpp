// A folder with real digits: MNIST's IDX files or optdigits' CSV files.

#ifndef TRAIN_DIGITS_LOAD_DATASET_HPP
#define TRAIN_DIGITS_LOAD_DATASET_HPP

#include <filesystem>
#include <string>
#include <utility>

#include "bad_input.hpp"
#include "dataset.hpp"
#include "read_csv.hpp"
#include "read_idx.hpp"

namespace train_digits {

namespace detail {

// MNIST's files come as train-images-idx3-ubyte and, from some unpackers, as train-images.idx3-ubyte.
inline std::filesystem::path idx_path(const std::filesystem::path& folder, const std::string& stem,
                                      const std::string& kind) {
  const std::filesystem::path dotted = folder / (stem + "." + kind);
  return std::filesystem::exists(dotted) ? dotted : folder / (stem + "-" + kind);
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

// Throws BadInput where the folder or a file in it is missing or malformed.
inline Dataset load_dataset(const std::filesystem::path& folder) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(folder)) throw BadInput(folder.string() + ": expected a folder with digits, found none");

  if (fs::exists(folder / "train.csv") || fs::exists(folder / "test.csv")) {
    return {"optdigits", csv_side, csv_side, read_csv(folder / "train.csv"), read_csv(folder / "test.csv")};
  }

  const fs::path train_images = detail::idx_path(folder, "train-images", "idx3-ubyte");
  if (fs::exists(train_images)) {
    detail::SizedExamples train = detail::load_idx(folder, "train");
    detail::SizedExamples test = detail::load_idx(folder, "t10k");
    if (test.height != train.height || test.width != train.width) {
      throw BadInput(folder.string() + ": expected test images of " + std::to_string(train.height) + " x " +
                     std::to_string(train.width) + " pixels like the training images, got " +
                     std::to_string(test.height) + " x " + std::to_string(test.width));
    }
    return {"MNIST", train.height, train.width, std::move(train.examples), std::move(test.examples)};
  }

  const bool compressed = fs::exists(train_images.string() + ".gz");
  throw BadInput(folder.string() +
                 ": expected MNIST's files (train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
                 "t10k-labels-idx1-ubyte) or optdigits' (train.csv, test.csv), found " +
                 (compressed ? "compressed ones: gunzip them first" : "neither"));
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_LOAD_DATASET_HPP
