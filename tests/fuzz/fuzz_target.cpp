// The entry for libFuzzer.

#include "play.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  play(data, size);
  return 0;
}
