#include "play.hpp"

void play(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  const std::uint8_t kind = bytes.next();
  const bool row_major = kind / 2 % 2 == 0;
  if (kind >= 192) {
    kind % 2 == 0 ? fuzz::play_half(bytes, row_major) : fuzz::play_bfloat16(bytes, row_major);
  } else {
    kind % 2 == 0 ? fuzz::play_float(bytes, row_major) : fuzz::play_double(bytes, row_major);
  }
}
