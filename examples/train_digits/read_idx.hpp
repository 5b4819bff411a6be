// MNIST's IDX files: a magic number, the dimensions and then one byte per value, integers with the high byte first
// (http://yann.lecun.com/exdb/mnist).

#ifndef TRAIN_DIGITS_READ_IDX_HPP
#define TRAIN_DIGITS_READ_IDX_HPP

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "dataset.hpp"

namespace train_digits {

struct IdxImages {
  Index height;
  Index width;
  Batch<float> images;  // ink 0 to 1
};

namespace detail {

class IdxFile {
 public:
  explicit IdxFile(const std::filesystem::path& file) : name_(file.string()) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) throw BadInput(name_ + ": cannot open this file");
    bytes_.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    if (stream.bad()) throw BadInput(name_ + ": reading failed");
  }

  // The next 32-bit number of the header.
  std::uint32_t number() {
    if (bytes_.size() - position_ < 4) {
      throw BadInput(name_ + ": expected a header of IDX numbers, got a file of " + std::to_string(bytes_.size()) +
                     " bytes");
    }
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | byte(position_++);
    return value;
  }

  void expect_magic(std::uint32_t magic, const std::string& content) {
    const std::uint32_t got = number();
    if (got != magic) {
      throw BadInput(name_ + ": expected magic number " + std::to_string(magic) + " (" + content + "), got " +
                     std::to_string(got) + (got >> 16 == 0x1f8b ? "; this file is compressed: gunzip it first" : ""));
    }
  }

  // The bytes after the header, which must be exactly this many.
  const unsigned char* values(std::uint64_t count) const {
    if (bytes_.size() - position_ != count) {
      throw BadInput(name_ + ": expected " + std::to_string(count) + " bytes after the header, got " +
                     std::to_string(bytes_.size() - position_));
    }
    return reinterpret_cast<const unsigned char*>(bytes_.data()) + position_;
  }

  const std::string& name() const { return name_; }

 private:
  std::uint32_t byte(std::size_t i) const { return static_cast<unsigned char>(bytes_[i]); }

  std::string name_;
  std::vector<char> bytes_;
  std::size_t position_ = 0;
};

}  // namespace detail

inline IdxImages read_idx_images(const std::filesystem::path& path) {
  detail::IdxFile file(path);
  file.expect_magic(2051, "images");
  const std::uint32_t count = file.number();
  const std::uint32_t height = file.number();
  const std::uint32_t width = file.number();
  constexpr std::uint32_t largest_side = 1024;
  if (count == 0 || height == 0 || width == 0 || height > largest_side || width > largest_side) {
    throw BadInput(file.name() + ": expected images of 1 x 1 to 1024 x 1024 pixels, got " + std::to_string(count) +
                   " of " + std::to_string(height) + " x " + std::to_string(width));
  }
  const std::uint64_t pixels = std::uint64_t{height} * width;
  const unsigned char* values = file.values(count * pixels);
  IdxImages result{static_cast<Index>(height), static_cast<Index>(width),
                   Batch<float>(static_cast<Index>(count), static_cast<Index>(pixels))};
  for (Index i = 0; i < result.images.size(); ++i) result.images.data()[i] = static_cast<float>(values[i]) / 255.0F;
  return result;
}

inline std::vector<int> read_idx_labels(const std::filesystem::path& path) {
  detail::IdxFile file(path);
  file.expect_magic(2049, "labels");
  const std::uint32_t count = file.number();
  const unsigned char* values = file.values(count);
  std::vector<int> labels(values, values + count);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] >= digit_count) {
      throw BadInput(file.name() + ": expected labels 0 to 9, got " + std::to_string(labels[i]) + " at number " +
                     std::to_string(i + 1));
    }
  }
  return labels;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_READ_IDX_HPP
