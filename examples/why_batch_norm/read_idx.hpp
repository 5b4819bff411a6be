// IDX files, as MNIST's: a magic number, the dimensions and then one byte per value, integers with the high byte first
// (http://yann.lecun.com/exdb/mnist). Compressed by gzip or not.

#ifndef WHY_BATCH_NORM_READ_IDX_HPP
#define WHY_BATCH_NORM_READ_IDX_HPP

#include <zlib.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "dataset.hpp"

namespace why_batch_norm {

struct IdxImages {
  Index height;
  Index width;
  Batch<float> images;  // 0 to 1
};

namespace detail {

class IdxFile {
 public:
  // Reads the whole file; zlib gives what is not compressed as it is.
  explicit IdxFile(const std::filesystem::path& path) : name_(path.string()) {
    struct Closer {
      void operator()(gzFile file) const { gzclose(file); }
    };
    const std::unique_ptr<gzFile_s, Closer> file(gzopen(name_.c_str(), "rb"));
    if (!file) throw BadInput(name_ + ": cannot open this file");
    std::array<unsigned char, 1 << 16> buffer;
    for (;;) {
      const int got = gzread(file.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
      if (got > 0) bytes_.insert(bytes_.end(), buffer.begin(), buffer.begin() + got);
      if (got == static_cast<int>(buffer.size())) continue;
      int error = Z_OK;  // a file that ends too early gives what it has, and then this error
      const std::string message = gzerror(file.get(), &error);
      if (got < 0 || error != Z_OK) throw BadInput(name_ + ": cannot be read to its end: " + message);
      return;
    }
  }

  // The next 32-bit number of the header.
  std::uint32_t number() {
    if (bytes_.size() - position_ < 4) {
      throw BadInput(name_ + ": expected a header of IDX numbers, got " + std::to_string(bytes_.size()) + " bytes");
    }
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | bytes_[position_++];
    return value;
  }

  void expect_magic(std::uint32_t magic, const std::string& content) {
    const std::uint32_t got = number();
    if (got != magic) {
      throw BadInput(name_ + ": expected magic number " + std::to_string(magic) + " (" + content + "), got " +
                     std::to_string(got));
    }
  }

  // The bytes after the header, which must be exactly this many.
  const unsigned char* values(std::uint64_t count) const {
    if (bytes_.size() - position_ != count) {
      throw BadInput(name_ + ": expected " + std::to_string(count) + " bytes after the header, got " +
                     std::to_string(bytes_.size() - position_));
    }
    return bytes_.data() + position_;
  }

  const std::string& name() const { return name_; }

 private:
  std::string name_;
  std::vector<unsigned char> bytes_;
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
  return {values, values + count};
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_READ_IDX_HPP
