// Files as bytes: read in the pieces in which they come, and written whole.

#ifndef BATCHNORM_DETAIL_FILES_FILE_HPP
#define BATCHNORM_DETAIL_FILES_FILE_HPP

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "batchnorm/detail/interface/error.hpp"

BATCHNORM_NAMESPACE_BEGIN
#if BATCHNORM_MSVC
#pragma warning(disable : 4996)  // that fopen and strerror have successors, which no other system has
#endif
namespace detail {

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using OpenFile = std::unique_ptr<std::FILE, CloseFile>;

inline OpenFile open_file(const std::string& path, const char* mode) {
  OpenFile file(std::fopen(path.c_str(), mode));
  if (file == nullptr) {
    fail<std::runtime_error>("expected a file that can be ", mode[0] == 'r' ? "read" : "written", ", got \"", path,
                             "\": ", std::strerror(errno));
  }
  return file;
}

/// Bytes that come one after another, from a file or from memory, and the name by which errors tell of them.
class ByteReader {
 public:
  ByteReader(std::string name, std::FILE* file) : name_(std::move(name)), file_(file) {}
  ByteReader(std::string name, const std::byte* data, std::size_t size)
      : name_(std::move(name)), data_(data), size_(size) {}

  ByteReader(const ByteReader&) = delete;
  ByteReader& operator=(const ByteReader&) = delete;

  const std::string& name() const { return name_; }

  /// Reads at most so many bytes, fewer at the end.
  std::size_t read(std::byte* to, std::size_t size) {
    if (file_ == nullptr) {
      const std::size_t count = (std::min)(size, size_);
      if (count != 0) std::memcpy(to, data_, count);
      data_ += count;
      size_ -= count;
      return count;
    }
    const std::size_t count = std::fread(to, 1, size, file_);
    if (count < size && std::ferror(file_) != 0) damaged("cannot be read");
    return count;
  }

  /// Reads so many bytes, whatever that number is: memory is taken as they come. Fewer at the end.
  std::vector<std::byte> read_at_most(std::uint64_t size) {
    constexpr std::uint64_t piece = std::uint64_t{1} << 20;
    std::vector<std::byte> result;
    while (result.size() < size) {
      const std::size_t before = result.size();
      const auto more = static_cast<std::size_t>((std::min)(size - before, (std::max)(piece, std::uint64_t{before})));
      result.resize(before + more);
      const std::size_t count = read(result.data() + before, more);
      result.resize(before + count);
      if (count < more) break;
    }
    return result;
  }

  /// Throws what is wrong with the file.
  template <class... Parts>
  [[noreturn]] void damaged(const Parts&... parts) const {
    fail<std::runtime_error>("\"", name_, "\" ", parts...);
  }

 private:
  std::string name_;
  std::FILE* file_ = nullptr;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A number of so many bytes, the lowest first.
template <class Number>
Number little_endian(const std::byte* bytes) {
  Number result = 0;
  for (std::size_t i = sizeof(Number); i-- > 0;) {
    result = static_cast<Number>((result << 8) | std::to_integer<Number>(bytes[i]));
  }
  return result;
}

/// Writes a file, from parts of which each is bytes and their number.
class ByteWriter {
 public:
  explicit ByteWriter(const std::string& path) : path_(path), file_(open_file(path, "wb")) {}

  ByteWriter& write(const void* data, std::size_t size) {
    if (size != 0 && std::fwrite(data, 1, size, file_.get()) != size) failed();
    return *this;
  }
  ByteWriter& write(const std::string& text) { return write(text.data(), text.size()); }

  /// To be called at the end: what the system has kept may fail to be written.
  void close() {
    if (std::fclose(file_.release()) != 0) failed();
  }

 private:
  [[noreturn]] void failed() const {
    fail<std::runtime_error>("\"", path_, "\" cannot be written: ", std::strerror(errno));
  }

  std::string path_;
  OpenFile file_;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_FILE_HPP
