#include "play_impl.hpp"

void fuzz::play_half(Bytes& bytes, bool row_major) {
  if (row_major) {
    Player<Eigen::half, Eigen::RowMajor>(bytes).play();
  } else {
    Player<Eigen::half, Eigen::ColMajor>(bytes).play();
  }
}
