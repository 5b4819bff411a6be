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

/// What a layer is asked for besides batch normalization: calls without tags, tags in the calls of a layer that was
/// made without an activation, or tags and an activation.
enum class Extras { none, tags, relu, leaky_relu };

/// What is fixed at compile time, as far as it is, and what the first byte says besides.
struct Kind {
  bool row_major;
  bool matrices;  ///< instead of tensors, for the types that have them
  Extras extras;
};

/// The part of play() for a type: the other bytes, to a layer of that kind. Matrices are compiled for one type that has
/// float pairs and one of 16 bits: what they differ in from tensors does not depend on the type.
void play_float(Bytes& bytes, const Kind& kind);
void play_double(Bytes& bytes, const Kind& kind);
void play_half(Bytes& bytes, const Kind& kind);
void play_bfloat16(Bytes& bytes, const Kind& kind);

}  // namespace fuzz

#endif  // BATCHNORM_TESTS_FUZZ_PLAY_HPP
