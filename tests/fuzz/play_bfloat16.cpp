#include "play_impl.hpp"

void fuzz::play_bfloat16(Bytes& bytes, const Kind& kind) { play_to<Eigen::bfloat16, Tensors>(bytes, kind); }
