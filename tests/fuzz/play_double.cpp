#include "play_impl.hpp"

void fuzz::play_double(Bytes& bytes, bool row_major) {
  if (row_major) {
    Player<double, Eigen::RowMajor>(bytes).play();
  } else {
    Player<double, Eigen::ColMajor>(bytes).play();
  }
}
