// The four primitives on tensors and matrices, stateless: what every feature of the layer is made of.

#ifndef BATCHNORM_FUNCTIONAL_HPP
#define BATCHNORM_FUNCTIONAL_HPP

#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/moments.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// The accumulator for tensors of X's scalar: double for float, double and the 16-bit types, else the scalar itself.
template <class X>
using AccumulatorOf = detail::accumulator_t<detail::scalar_of<X>>;

/// Per-channel coefficients of `normalize`: y = (x - mean - mean_residual) * scale + shift, each [channels].
/// Beside each is what it is in batch normalization.
template <class A>
struct NormalizeCoefficients {
  Eigen::Tensor<A, 1> mean,  ///< the mean, to A's precision
      mean_residual,         ///< what that leaves of it, or 0
      scale,                 ///< weight / sqrt(variance + epsilon)
      shift;                 ///< the bias
};

/// Per-channel coefficients of `apply_gradients`, each [channels]:
/// dx = ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale.
/// Beside each is what it is in batch normalization by the statistics of the batch.
template <class A>
struct GradientCoefficients {
  Eigen::Tensor<A, 1> mean_dy,  ///< sum(dy) / n, of n values per channel
      mean,                     ///< the mean of x, to A's precision
      mean_residual,            ///< what that leaves of it, or 0
      projection,               ///< sum(dy * (x - mean)) / n / (variance + epsilon)
      scale;                    ///< weight / sqrt(variance + epsilon)
};

/// The result of `accumulate_gradients`, each [channels].
template <class A>
struct GradientSums {
  Eigen::Tensor<A, 1> dy;           ///< sum(dy)
  Eigen::Tensor<A, 1> dy_centered;  ///< sum(dy * (x - mean - mean_residual))
};

namespace detail {

// The arrays of coefficients that are only read. No deviation is known of what a caller hands in.

template <class A>
NormalizeArrays<A> arrays_of(const NormalizeCoefficients<A>& k) {
  NormalizeArrays<A> result;
  A** array = result.arrays;
  for (const auto* tensor : {&k.mean, &k.mean_residual, &k.scale, &k.shift}) *array++ = const_cast<A*>(tensor->data());
  return result;
}

template <class A>
GradientArrays<A> arrays_of(const GradientCoefficients<A>& k) {
  GradientArrays<A> result;
  A** array = result.arrays;
  for (const auto* tensor : {&k.mean_dy, &k.mean, &k.mean_residual, &k.projection, &k.scale}) {
    *array++ = const_cast<A*>(tensor->data());
  }
  *array = nullptr;
  return result;
}

template <class Shape>
void check_same_shape(const char* name, const Shape& got, const Shape& expected) {
  require(expected == got, "expected ", name, " of the shape of x, ", shape_text(expected), ", got ", shape_text(got));
}

template <class Vector>
void check_per_channel(const char* name, const Vector& vector, Index channels) {
  require(vector.size() == channels, "expected ", name, " of size ", channels, ", got ", vector.size());
}

}  // namespace detail

/// Primitive 1: count, mean and M2 of each channel of x, a tensor or expression of any rank, or a matrix or array as
/// one of rank 2, on the axis given (negative: from the back). One pass over memory. Throws std::invalid_argument for
/// an axis that x has not, or that has no channels.
template <class Device, class X>
BasicMoments<AccumulatorOf<X>> accumulate_moments(const Device& device, const X& x, int channel_axis) {
  const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
  const auto& input = detail::evaluated(device, x);
  const detail::Index channels = detail::shape_of(input, axis)[static_cast<std::size_t>(axis)];
  BasicMoments<AccumulatorOf<X>> moments(static_cast<Eigen::Index>(channels));
  moments.add(device, input, axis);
  return moments;
}

/// Primitive 1 on the calling thread.
template <class X>
BasicMoments<AccumulatorOf<X>> accumulate_moments(const X& x, int channel_axis) {
  return accumulate_moments(Eigen::DefaultDevice(), x, channel_axis);
}

/// Primitive 2: y = (x - mean - mean_residual) * scale + shift, into y of x's scalar, shape and layout, which may be
/// x but share no element with it otherwise. Throws std::invalid_argument for shapes and sizes that do not fit.
template <class Device, class X, class Y>
void normalize(const Device& device, const X& x, int channel_axis,
               const NormalizeCoefficients<AccumulatorOf<X>>& coefficients, Y&& y) {
  using T = detail::scalar_of<X>;
  static_cast<void>(detail::check_scalar_type<T>());
  static_assert(detail::check_device_type<Device>() && detail::check_output_type<X, Y>());
  const auto& input = detail::evaluated(device, x);
  const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
  const auto from = detail::view_tensor<const T>(input, axis);
  const auto to = detail::view_output<T>("y", y, axis);
  const detail::View view = detail::make_view(from.shape, detail::layout_of<X>, axis);
  detail::check_same_shape("y", to.shape, from.shape);
  detail::check_per_channel("mean", coefficients.mean, view.channels);
  detail::check_per_channel("mean_residual", coefficients.mean_residual, view.channels);
  detail::check_per_channel("scale", coefficients.scale, view.channels);
  detail::check_per_channel("shift", coefficients.shift, view.channels);
  const detail::Operands<T, 1> x_to_y{{detail::elements_of(from, view, axis)}, {detail::elements_of(to, view, axis)}};
  detail::check_overlap<T>("x", x_to_y.in[0], "y", x_to_y.out[0], view);
  if (view.size() == 0) return;
  const auto arrays = detail::arrays_of(coefficients);
  detail::normalize(device, view, x_to_y, [&](const detail::Tile& tile, const auto& f) {
    f(detail::from_channel(arrays, tile.channel_begin));
  });
}

/// Primitive 2 on the calling thread.
template <class X, class Y, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
void normalize(const X& x, int channel_axis, const NormalizeCoefficients<AccumulatorOf<X>>& coefficients, Y&& y) {
  normalize(Eigen::DefaultDevice(), x, channel_axis, coefficients, std::forward<Y>(y));
}

/// Primitive 3: sum(dy) and sum(dy * (x - mean - mean_residual)) of each channel, for a mean of each channel. dy is of
/// x's type, shape and layout; mean and mean_residual are [channels]. Throws std::invalid_argument for shapes and sizes
/// that do not fit.
template <class Device, class X, class Dy,
          std::enable_if_t<!detail::is_tensor<Device> && !detail::is_dense<Device>, int> = 0>
GradientSums<AccumulatorOf<X>> accumulate_gradients(const Device& device, const X& x, const Dy& dy, int channel_axis,
                                                    const Eigen::Tensor<AccumulatorOf<X>, 1>& mean,
                                                    const Eigen::Tensor<AccumulatorOf<X>, 1>& mean_residual) {
  using A = AccumulatorOf<X>;
  using T = detail::scalar_of<X>;
  static_cast<void>(detail::check_scalar_type<detail::scalar_of<X>>());
  static_assert(detail::check_device_type<Device>() && detail::check_input_type<T, detail::rank_of<X>, Dy>() &&
                detail::check_gradient_type<X, Dy>());
  const auto& input = detail::evaluated(device, x);
  const auto& gradient = detail::evaluated(device, dy);
  const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
  const auto x_view = detail::view_tensor<const T>(input, axis), dy_view = detail::view_tensor<const T>(gradient, axis);
  const detail::View view = detail::make_view(x_view.shape, detail::layout_of<X>, axis);
  detail::check_same_shape("dy", dy_view.shape, x_view.shape);
  detail::check_per_channel("mean", mean, view.channels);
  detail::check_per_channel("mean_residual", mean_residual, view.channels);
  GradientSums<A> result{Eigen::Tensor<A, 1>(mean.size()), Eigen::Tensor<A, 1>(mean.size())};
  for (Eigen::Index c = 0; c < mean.size(); ++c) result.dy(c) = result.dy_centered(c) = A(0);
  if (view.size() == 0) return result;
  detail::Workspace<A> workspace;
  const detail::Elements<const T> elements[] = {detail::elements_of(x_view, view, axis),
                                                detail::elements_of(dy_view, view, axis)};
  detail::accumulate_gradients<T>(
      device, view, detail::work_of_sums<T>(device, view, elements, false), workspace,
      [&](const detail::Tile& tile, const detail::Prefetches& prefetches, const detail::GradientSumArrays<A>& sums) {
        detail::accumulate_gradients(view, tile, prefetches, elements[0], elements[1], mean.data(), false, sums);
      },
      [&](detail::Index first, detail::Index channels, const detail::GradientSumArrays<A>& sums,
          const detail::GradientArrays<A>&) {
        using One = typename detail::AlgebraPack<A>::One;
        for (detail::Index c = 0; c < channels; ++c) {
          const auto totals =
              detail::gradients_of<One>(sums, mean_residual.data() + first, c, view.values_per_channel(), false);
          result.dy.data()[first + c] = totals.dy.v[0];
          result.dy_centered.data()[first + c] = totals.dy_centered.v[0];
        }
      },
      detail::NoPass());
  return result;
}

/// Primitive 3 on the calling thread.
template <class X, class Dy, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
GradientSums<AccumulatorOf<X>> accumulate_gradients(const X& x, const Dy& dy, int channel_axis,
                                                    const Eigen::Tensor<AccumulatorOf<X>, 1>& mean,
                                                    const Eigen::Tensor<AccumulatorOf<X>, 1>& mean_residual) {
  return accumulate_gradients(Eigen::DefaultDevice(), x, dy, channel_axis, mean, mean_residual);
}

/// Primitive 4: dx = ((dy - mean_dy) - (x - mean - mean_residual) * projection) * scale, into dx of x's type, shape and
/// layout, which may be x or dy but not overlap them otherwise. Throws std::invalid_argument for shapes and sizes that
/// do not fit.
template <class Device, class X, class Dy, class Dx,
          std::enable_if_t<!detail::is_tensor<Device> && !detail::is_dense<Device>, int> = 0>
void apply_gradients(const Device& device, const X& x, const Dy& dy, int channel_axis,
                     const GradientCoefficients<AccumulatorOf<X>>& coefficients, Dx&& dx) {
  using T = detail::scalar_of<X>;
  static_cast<void>(detail::check_scalar_type<detail::scalar_of<X>>());
  static_assert(detail::check_device_type<Device>() && detail::check_input_type<T, detail::rank_of<X>, Dy>() &&
                detail::check_gradient_type<X, Dy>() && detail::check_output_type<X, Dx>());
  const auto& input = detail::evaluated(device, x);
  const auto& gradient = detail::evaluated(device, dy);
  const int axis = detail::normalized_axis(channel_axis, detail::rank_of<X>);
  const auto x_view = detail::view_tensor<const T>(input, axis), dy_view = detail::view_tensor<const T>(gradient, axis);
  const detail::View view = detail::make_view(x_view.shape, detail::layout_of<X>, axis);
  detail::check_same_shape("dy", dy_view.shape, x_view.shape);
  const auto to = detail::view_output<T>("dx", dx, axis);
  detail::check_same_shape("dx", to.shape, x_view.shape);
  detail::check_per_channel("mean_dy", coefficients.mean_dy, view.channels);
  detail::check_per_channel("mean", coefficients.mean, view.channels);
  detail::check_per_channel("mean_residual", coefficients.mean_residual, view.channels);
  detail::check_per_channel("projection", coefficients.projection, view.channels);
  detail::check_per_channel("scale", coefficients.scale, view.channels);
  const detail::Operands<T, 2> tensors{
      {detail::elements_of(x_view, view, axis), detail::elements_of(dy_view, view, axis)},
      {detail::elements_of(to, view, axis)}};
  detail::check_overlap<T>("x", tensors.in[0], "dx", tensors.out[0], view);
  detail::check_overlap<T>("dy", tensors.in[1], "dx", tensors.out[0], view);
  if (view.size() == 0) return;
  detail::apply_gradients(device, view, tensors, detail::arrays_of(coefficients));
}

/// Primitive 4 on the calling thread.
template <class X, class Dy, class Dx, std::enable_if_t<detail::is_tensor<X> || detail::is_dense<X>, int> = 0>
void apply_gradients(const X& x, const Dy& dy, int channel_axis,
                     const GradientCoefficients<AccumulatorOf<X>>& coefficients, Dx&& dx) {
  apply_gradients(Eigen::DefaultDevice(), x, dy, channel_axis, coefficients, std::forward<Dx>(dx));
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_FUNCTIONAL_HPP
