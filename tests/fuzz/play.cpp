#include "play.hpp"

void play(const std::uint8_t* data, std::size_t size) {
  fuzz::Bytes bytes(data, size);
  const std::uint8_t first = bytes.next();
  const fuzz::Kind kind{first / 2 % 2 == 0, first / 4 % 2 != 0, static_cast<fuzz::Extras>(first / 8 % 4)};
  if (first >= 192) {
    first % 2 == 0 ? fuzz::play_half(bytes, kind) : fuzz::play_bfloat16(bytes, kind);
  } else {
    first % 2 == 0 ? fuzz::play_float(bytes, kind) : fuzz::play_double(bytes, kind);
  }
}
