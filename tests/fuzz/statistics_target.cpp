// Cases of every kind of statistics made of bytes, each against the oracle: for libFuzzer, or a program that plays the
// numbers 0 to N - 1 as bytes.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

#include "../statistics_oracle.hpp"

namespace {

using statistics_oracle::Case;

template <class T, int Layout>
void check(const Case& c, std::uint64_t seed) {
  try {
    const auto differences = statistics_oracle::compare<T, Layout>(c, seed);
    if (differences.template fit<T>()) return;
    std::cerr << c << ", seed " << seed << ", " << sizeof(T) << " bytes, "
              << (Layout == Eigen::RowMajor ? "RowMajor: " : "ColMajor: ") << differences << "\n";
    std::abort();
  } catch (const std::invalid_argument& error) {
    // Of weights that do not count samples there is no unbiased variance.
    if (std::string(error.what()).find("that count samples") == std::string::npos) throw;
  }
}

// What the bytes say, the first of them about the case.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  Eigen::Index below(Eigen::Index n) { return next() % n; }
  std::uint64_t seed() {
    std::uint64_t result = 0;
    for (int i = 0; i < 4; ++i) result = result * 256 + next();
    return result;
  }

 private:
  std::uint8_t next() { return at_ < size_ ? data_[at_++] : 0; }

  const std::uint8_t* data_;
  std::size_t size_, at_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  Case c{};
  c.axis = static_cast<int>(bytes.below(4));
  for (auto& extent : c.sizes) extent = 1 + bytes.below(5);
  const auto axis = static_cast<std::size_t>(c.axis);
  if (bytes.below(3) == 0) c.sizes[axis] = 15 + bytes.below(60);            // wide enough for packs
  if (bytes.below(3) == 0) c.sizes[(axis + 1) % 4] = 12 + bytes.below(12);  // about the least row
  c.group = bytes.below(5);
  c.normalize = static_cast<statistics_oracle::Normalize>(bytes.below(4));
  c.weights = static_cast<statistics_oracle::Weights>(bytes.below(5));
  c.per_sample = bytes.below(2) == 1;
  c.activated = bytes.below(2) == 1;
  const Eigen::Index kind = bytes.below(4);
  Eigen::Index size_of_x = 1;
  for (const auto extent : c.sizes) size_of_x *= extent;
  if (size_of_x > 2000) return 0;  // each element's gradient is two forwards of all
  const std::uint64_t seed = bytes.seed();
  if (kind == 0) check<double, Eigen::RowMajor>(c, seed);
  if (kind == 1) check<double, Eigen::ColMajor>(c, seed);
  if (kind == 2) check<float, Eigen::RowMajor>(c, seed);
  if (kind == 3) check<float, Eigen::ColMajor>(c, seed);
  return 0;
}

#ifdef REPLAY
int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 0;
  Random random(1);
  for (int i = 0; i < count; ++i) {
    std::uint8_t bytes[18];
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random.uniform(0, 256));
    LLVMFuzzerTestOneInput(bytes, sizeof(bytes));
  }
  std::printf("%d cases played\n", count);
}
#endif
