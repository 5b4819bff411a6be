// How the values of each channel are cut for sums, which decides the bits of the sums.

#ifndef BATCHNORM_DETAIL_SCHEDULE_SLICES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_SLICES_HPP

#include <algorithm>

#include "batchnorm/detail/kernels/tile.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Pieces of a view along outer and inner. Sums are taken slice by slice and merged in the order of the slices: so that
/// they have the same bits for any number of threads and any cache, slices follow from the shape alone.
struct Slices {
  Index outer = 1, inner = 1;

  Index count() const { return outer * inner; }

  static Slices for_sums(const View& view) {
    // Values of one channel (by rows) or of all channels (by columns) in a slice: so many that what is done once for
    // each slice costs little, and so few that threads can share the work of a tensor with few channels.
    constexpr Index slice_values = Index(1) << 15;
    // A slice has as many outer steps as this, unless its values are limited: to merge the sums of two slices by
    // columns takes as long as to sum up thirty outer steps.
    constexpr Index least_rows = 256;
    // There are no more slices than this, unless their values are limited: that is enough for any number of threads.
    constexpr Index most_slices = 64;

    if (!by_columns(view) && view.inner > slice_values) return {view.outer, ceil_div(view.inner, slice_values)};
    const Index rows = (std::max)(least_rows, view.outer / most_slices);
    if (by_columns(view)) return {ceil_div(view.outer, (std::max)(rows, slice_values / view.step_width())), 1};
    return {ceil_div(view.outer, (std::min)(rows, slice_values / view.inner)), 1};
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_SLICES_HPP
