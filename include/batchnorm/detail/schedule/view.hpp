// Every tensor as an [outer, channels, inner] array, whatever its rank, layout and channel axis, and where its elements
// lie.

#ifndef BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP
#define BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP

#include <algorithm>
#include <cstdint>

#include "batchnorm/detail/interface/checks.hpp"
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

template <class T, int Dims>
Elements<T> elements_of(const TensorView<T, Dims>& tensor, const View& view, int channel_axis) {
  if constexpr (Dims == 2) {
    const auto axis = static_cast<std::size_t>(channel_axis);
    if (tensor.has_strides) {
      return Elements<T>::strided(tensor.data, view, tensor.strides[1 - axis], tensor.strides[axis]);
    }
  }
  return Elements<T>::dense(tensor.data, view);
}

/// What some elements take up: rows of so many bytes, as far apart as the stride.
struct MemoryRows {
  std::intptr_t first, count, width, stride;

  template <class T>
  static MemoryRows of(const Elements<const T>& elements, const View& view) {
    constexpr auto bytes = static_cast<Index>(sizeof(T));
    const auto first = reinterpret_cast<std::intptr_t>(elements.data);
    if (elements.is_dense(view)) return {first, 1, view.size() * bytes, view.size() * bytes};
    if (elements.has_whole_steps(view)) {
      return {first, view.outer, view.step_width() * bytes, elements.outer_stride * bytes};
    }
    return {first, view.outer * view.channels, view.inner * bytes, elements.channel_stride * bytes};
  }

  /// Whether one of these rows has a byte of the other's.
  bool overlap(const MemoryRows& other) const {
    if (count == 1 && other.count == 1) return first < other.first + other.width && other.first < first + width;
    return overlap_in_rows(other);
  }

 private:
  BATCHNORM_NOINLINE bool overlap_in_rows(const MemoryRows& other) const {
    const auto end = [](const MemoryRows& rows) { return rows.first + (rows.count - 1) * rows.stride + rows.width; };
    if (other.first >= end(*this) || first >= end(other)) return false;
    if (stride <= 0 || other.stride <= 0) return true;  // of inputs whose rows share elements
    // Between two rows of equal strides lies the same wherever they are, so that one stands for all.
    const bool same_stride = stride == other.stride;
    const std::intptr_t rows = same_stride ? 1 : count, before = same_stride ? count - 1 : 0;
    for (std::intptr_t i = 0; i < rows; ++i) {
      const std::intptr_t begin = first + i * stride - other.first;
      // The first of the other's rows that ends after this one's begin.
      const std::intptr_t k = floor_div(begin - other.width, other.stride) + 1;
      const std::intptr_t at = (std::max)(k, -before);
      if (at < other.count && at * other.stride < begin + width) return true;
    }
    return false;
  }

  static std::intptr_t floor_div(std::intptr_t a, std::intptr_t b) { return a / b - (a % b < 0 ? 1 : 0); }
};

/// An output must be the input's memory exactly, for work in place, or apart from it.
template <class T>
void check_overlap(const char* input_name, const Elements<const T>& input, const char* output_name,
                   const Elements<const T>& output, const View& view) {
  if (view.size() == 0) return;
  if (input.data == output.data && input.is_dense(view) && output.is_dense(view)) return;
  const bool same_memory = input.data == output.data && input.outer_stride == output.outer_stride &&
                           input.channel_stride == output.channel_stride;
  require(same_memory || !MemoryRows::of(input, view).overlap(MemoryRows::of(output, view)), "expected ", output_name,
          " to be ", input_name, " itself or memory apart from it, got memory that begins ",
          (reinterpret_cast<std::intptr_t>(output.data) - reinterpret_cast<std::intptr_t>(input.data)),
          " bytes from that of ", input_name);
}

/// An output that may not be the input's memory either.
template <class T>
void check_apart(const char* input_name, const Elements<const T>& input, const char* output_name,
                 const Elements<const T>& output, const View& view) {
  require(view.size() == 0 || !MemoryRows::of(input, view).overlap(MemoryRows::of(output, view)), "expected ",
          output_name, " in memory apart from ", input_name, ", got memory that begins ",
          (reinterpret_cast<std::intptr_t>(output.data) - reinterpret_cast<std::intptr_t>(input.data)),
          " bytes from that of ", input_name);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_VIEW_HPP
