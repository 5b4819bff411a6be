// A file's bytes in memory: mapped where the system can, else read.

#ifndef BATCHNORM_DETAIL_FILES_MAPPED_FILE_HPP
#define BATCHNORM_DETAIL_FILES_MAPPED_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#if defined(__unix__) || (defined(__APPLE__) && defined(__MACH__))
#define BATCHNORM_HAS_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#define BATCHNORM_HAS_MMAP 0
#endif

#include "batchnorm/detail/files/file.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The bytes of a file, as long as this is there. A file that another program shortens meanwhile ends this one, as with
/// any memory map.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const OpenFile file = open_file(path, "rb");
#if BATCHNORM_HAS_MMAP
    struct stat status = {};
    if (::fstat(fileno(file.get()), &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0 &&
        static_cast<std::uintmax_t>(status.st_size) <= (std::numeric_limits<std::size_t>::max)()) {
      const auto size = static_cast<std::size_t>(status.st_size);
      void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fileno(file.get()), 0);
      if (mapped != MAP_FAILED) {
        mapped_ = mapped;
        size_ = size;
        data_ = static_cast<const std::byte*>(mapped);
        return;
      }
    }
#endif
    ByteReader reader(path, file.get());
    read_ = reader.read_at_most((std::numeric_limits<std::uint64_t>::max)());
    data_ = read_.data();
    size_ = read_.size();
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
#if BATCHNORM_HAS_MMAP
    if (mapped_ != nullptr) ::munmap(mapped_, size_);
#endif
  }

  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  /// Whether the system maps it.
  bool is_mapped() const { return mapped_ != nullptr; }

 private:
  std::vector<std::byte> read_{};
  void* mapped_ = nullptr;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_MAPPED_FILE_HPP
