#include "play_impl.hpp"

void fuzz::play_half(Bytes& bytes, const Kind& kind) {
  kind.matrices ? play_to<Eigen::half, Matrices>(bytes, kind) : play_to<Eigen::half, Tensors>(bytes, kind);
}
