#include "play_impl.hpp"

void fuzz::play_double(Bytes& bytes, const Kind& kind) { play_to<double, Tensors>(bytes, kind); }
