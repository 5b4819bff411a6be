#include "play_impl.hpp"

void fuzz::play_float(Bytes& bytes, const Kind& kind) {
  kind.matrices ? play_to<float, Matrices>(bytes, kind) : play_to<float, Tensors>(bytes, kind);
}
