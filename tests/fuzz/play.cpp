#include "play.hpp"

void play(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  const std::uint8_t kind = bytes.next();
  const bool row_major = kind / 2 % 2 == 0;
  kind % 2 == 0 ? fuzz::play_float(bytes, row_major) : fuzz::play_double(bytes, row_major);
}
