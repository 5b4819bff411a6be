// A sequence of calls made of bytes.

#ifndef BATCHNORM_TESTS_FUZZ_PLAY_HPP
#define BATCHNORM_TESTS_FUZZ_PLAY_HPP

#include <cstddef>
#include <cstdint>

#include <Eigen/Core>  // Eigen::Index

/// Reads a layer's type, shapes, options, values and a sequence of calls from the bytes, whatever they are, makes the
/// calls, and compares every result with 50 decimal digits. A difference is written to stderr and ends the program.
void play(const std::uint8_t* bytes, std::size_t size);

namespace fuzz {

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  /// 0 after the end.
  std::uint8_t next() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  bool flag() { return next() % 2 != 0; }
  template <class T, std::size_t N>
  T one_of(const T (&values)[N]) {
    return values[next() % N];
  }
  /// A length: any below 128, or one at which the library cuts its work.
  Eigen::Index length() {
    static constexpr Eigen::Index edges[] = {128, 129, 150, 196, 225, 255, 256, 257,  300,  500,
                                             511, 512, 513, 600, 784, 900, 999, 1023, 1025, 1600};
    const std::uint8_t byte = next();
    return byte < 128 ? byte : edges[byte % (sizeof(edges) / sizeof(*edges))];
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
};

/// The part of play() for a type: the other bytes, to a layer of either layout.
void play_float(Bytes& bytes, bool row_major);
void play_double(Bytes& bytes, bool row_major);
void play_half(Bytes& bytes, bool row_major);
void play_bfloat16(Bytes& bytes, bool row_major);

}  // namespace fuzz

#endif  // BATCHNORM_TESTS_FUZZ_PLAY_HPP
