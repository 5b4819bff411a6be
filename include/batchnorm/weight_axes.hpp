// Which axes of a weight are those of channels, for folding.

#ifndef BATCHNORM_WEIGHT_AXES_HPP
#define BATCHNORM_WEIGHT_AXES_HPP

#include "batchnorm/detail/interface/config.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// The axes of the channels in the weight of a linear map or a convolution, negative where they count from the back,
/// and the number of groups into which the channels are split. As PyTorch and Keras store them:
///
///     Linear, [out, in]                                WeightAxes(0, 1)
///     Conv2d, [out, in / groups, height, width]        WeightAxes(0, 1, groups)
///     ConvTranspose2d, [in, out / groups, ...]         WeightAxes(1, 0, groups)
///     keras Dense, [in, out]; Conv2D, [..., in, out]   WeightAxes(-1, -2)
///     keras Conv2DTranspose, [height, width, out, in]  WeightAxes(-2, -1)
///     keras DepthwiseConv2D, [..., in, multiplier]     WeightAxes(-1, -2, in)
///
/// With groups one of the two axes has all its channels, and the other those of one group: which, the sizes tell.
struct WeightAxes {
  /// The axis of the output channels, that of the input channels, and the number of groups.
  constexpr WeightAxes(int out_axis, int in_axis, int group_count = 1) noexcept
      : out(out_axis), in(in_axis), groups(group_count) {}

  int out;     ///< the axis of the output channels
  int in;      ///< the axis of the input channels
  int groups;  ///< into how many groups the channels are split, at least 1
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_WEIGHT_AXES_HPP
