// Where the samples of a batch lie in a view, and boxes of some of them.

#ifndef BATCHNORM_DETAIL_SCHEDULE_SAMPLES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_SAMPLES_HPP

#include "batchnorm/detail/schedule/view.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Some neighbouring samples of a view, as a view of its own.
struct Box {
  View view;
  Index outer_begin = 0, inner_begin = 0;
  Index inner_stride = 0;  ///< 0 where its outer steps are those of the whole, else how far apart they lie along inner

  /// The box's elements of a tensor that has these.
  template <class T>
  Elements<T> of(const Elements<T>& whole) const {
    return Elements<T>::strided(whole.at(outer_begin, 0, inner_begin), view,
                                inner_stride == 0 ? whole.outer_stride : inner_stride, whole.channel_stride);
  }
};

/// The samples of a batch: those along axis 0, or along the last axis where the channels are on axis 0. In memory that
/// is the slowest axis of the view's outer steps, or the fastest of its rows:
///
///     slow: sample s is outer steps [s * outer / count, (s + 1) * outer / count)
///     fast: sample s is every count-th element of a row, from the s-th on
struct Samples {
  View view;
  Index count = 1;
  bool fast = false;

  template <std::size_t Rank>
  static Samples of(const View& view, const std::array<Index, Rank>& shape, int layout, int channel_axis) {
    const bool first = channel_axis != 0;
    return {view, first ? shape[0] : shape[Rank - 1], first == (layout == Eigen::ColMajor)};
  }

  /// In how many boxes neighbouring samples come.
  Index boxes() const { return fast && view.outer > 1 && view.inner > count ? view.outer : 1; }

  /// The b-th box of the samples [begin, end), of a view that is not empty.
  Box box(Index begin, Index end, Index b = 0) const {
    if (!fast) {
      const Index steps = view.outer / count;
      return {{(end - begin) * steps, view.channels, view.inner}, begin * steps, 0, 0};
    }
    if (view.inner == count) return {{view.outer, view.channels, end - begin}, 0, begin, 0};
    return {{view.inner / count, view.channels, end - begin}, b, begin, count};
  }

  /// The sample of a position.
  Index sample_of(Index o, Index i) const { return fast ? i % count : o / (view.outer / count); }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_SAMPLES_HPP
