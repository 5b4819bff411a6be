#include "play_impl.hpp"

void fuzz::play_bfloat16(Bytes& bytes, bool row_major) {
  if (row_major) {
    Player<Eigen::bfloat16, Eigen::RowMajor>(bytes).play();
  } else {
    Player<Eigen::bfloat16, Eigen::ColMajor>(bytes).play();
  }
}
