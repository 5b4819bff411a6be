#include "play_impl.hpp"

void fuzz::play_float(Bytes& bytes, bool row_major) {
  if (row_major) {
    Player<float, Eigen::RowMajor>(bytes).play();
  } else {
    Player<float, Eigen::ColMajor>(bytes).play();
  }
}
