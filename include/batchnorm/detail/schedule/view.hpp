// Every tensor as a dense [outer, channels, inner] array, whatever its rank, layout and channel axis.

#ifndef BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP
#define BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP

#include "batchnorm/detail/kernels/tile.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <std::size_t Rank>
View make_view(const std::array<Index, Rank>& shape, int layout, int channel_axis) {
  Index before = 1, after = 1;
  const auto axis = static_cast<std::size_t>(channel_axis);
  for (std::size_t i = 0; i < axis; ++i) before *= shape[i];
  for (std::size_t i = axis + 1; i < Rank; ++i) after *= shape[i];
  if (layout == Eigen::RowMajor) return {before, shape[axis], after};
  return {after, shape[axis], before};
}

/// The axis counted from the front, for one that may count from the back.
inline int normalized_axis(int axis, int rank) {
  require(axis >= -rank && axis < rank, "expected a channel_axis in [", -rank, ", ", rank - 1, "] for rank ", rank,
          ", got ", axis);
  return axis < 0 ? axis + rank : axis;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP
