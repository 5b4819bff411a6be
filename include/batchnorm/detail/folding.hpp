// Folding: y = (x - mean) scale + shift as part of the weight and bias of a map.

#ifndef BATCHNORM_DETAIL_FOLDING_HPP
#define BATCHNORM_DETAIL_FOLDING_HPP

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "batchnorm/detail/files/elements.hpp"
#include "batchnorm/detail/interface/strided.hpp"
#include "batchnorm/frozen_batch_norm.hpp"
#include "batchnorm/weight_axes.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The bias that a map without one gets: a vector beside a matrix, a tensor beside a tensor.
template <class Weight>
using bias_like = std::conditional_t<is_dense<Weight>, Eigen::Matrix<scalar_of<Weight>, Eigen::Dynamic, 1>,
                                     Eigen::Tensor<scalar_of<Weight>, 1>>;

/// Such a bias on its way: 0 at first, and made when all is checked.
template <class Weight>
struct NewBias {
  bias_like<Weight>& bias;
};

/// What is wrong with the types of weight, bias and axes, said in one sentence.
template <class Weight, class Bias, class Axes>
constexpr bool check_map_types() {
  constexpr bool axes = std::is_integral_v<Axes> || std::is_same_v<Axes, WeightAxes>;
  static_assert(axes,
                "batchnorm: expected a bias, as an Eigen vector or a tensor of rank 1 (of a pointer or a container an "
                "Eigen::Map), or axes, as a number or batchnorm::WeightAxes");
  constexpr bool any = is_tensor<Weight> || is_dense<Weight>;
  static_assert(any, "batchnorm: expected a weight as an Eigen matrix, tensor or map");
  if constexpr (axes && any) {
    constexpr bool memory = dense_memory<plain<Weight>>::direct || has_storage<plain<Weight>>;
    constexpr bool bias_memory = dense_memory<plain<Bias>>::direct || has_storage<plain<Bias>>;
    static_assert(memory && bias_memory,
                  "batchnorm: a weight and a bias are written to: expected matrices, vectors or tensors in memory, or "
                  "blocks or maps of them, and no expression");
    if constexpr (memory && bias_memory) {
      constexpr bool writable = is_writable<Weight>() && is_writable<Bias>();
      static_assert(writable, "batchnorm: a weight and a bias are written to: expected no constant or temporary ones");
      constexpr bool rank = is_dense<Bias> || rank_of<Bias> == 1, map = is_dense<Weight> || rank_of<Weight> >= 2;
      static_assert(rank, "batchnorm: expected a bias of rank 1");
      static_assert(map, "batchnorm: expected a weight of rank 2 or more");
      constexpr bool real = is_real<scalar_of<Weight>> && is_real<scalar_of<Bias>>;
      static_assert(real, "batchnorm: expected a weight and a bias of real numbers");
      return writable && rank && map && real;
    }
  }
  return false;
}

inline WeightAxes axes_of_map(const WeightAxes& axes, bool) { return axes; }
/// With the axis of the channels that are the layer's alone, the others lie on the first other axis.
inline WeightAxes axes_of_map(int axis, bool out) {
  return out ? WeightAxes(axis, axis == 0 ? 1 : 0) : WeightAxes(axis == 0 ? 1 : 0, axis);
}

/// The shape of a map's weight and its axes, checked.
class MapShape {
 public:
  MapShape(const std::vector<std::int64_t>& shape, const WeightAxes& axes)
      : shape_(shape), out_(axis_of(axes.out)), in_(axis_of(axes.in)), groups_(axes.groups) {
    require(groups_ >= 1, "expected at least 1 group, got ", groups_);
    require(out_ != in_, "expected two axes for output and input channels of a weight, got axis ", out_, " for both");
  }

  std::int64_t size(std::size_t axis) const { return shape_[axis]; }
  std::size_t out() const { return out_; }
  std::size_t in() const { return in_; }
  std::int64_t groups() const { return groups_; }

  /// Whether an axis has all of so many channels, and not those of one group. Throws where it has neither.
  bool is_complete(std::size_t axis, const char* kind, std::int64_t channels) const {
    if (size(axis) == channels) return true;
    const bool is_part = groups_ > 1 && size(axis) * groups_ == channels;
    if (groups_ == 1) {
      require(is_part, "expected ", channels, " ", kind, " channels on axis ", axis, " of the weight, got ", size(axis),
              " in shape ", shape_text(shape_));
    } else {
      require(is_part, "expected ", channels, " ", kind, " channels on axis ", axis,
              " of the weight, or as many of each of ", groups_, " groups, got ", size(axis), " in shape ",
              shape_text(shape_));
    }
    return false;
  }

  /// How many channels of an axis that has all of them are in a group.
  std::int64_t per_group(std::size_t axis) const {
    require(size(axis) % groups_ == 0, "expected on axis ", axis, " of the weight a multiple of ", groups_,
            " groups, got ", size(axis), " in shape ", shape_text(shape_));
    return size(axis) / groups_;
  }

 private:
  std::size_t axis_of(int axis) const {
    const int rank = static_cast<int>(shape_.size()), result = axis < 0 ? axis + rank : axis;
    require(result >= 0 && result < rank, "expected an axis of a weight of shape ", shape_text(shape_), ", got ", axis);
    return static_cast<std::size_t>(result);
  }

  const std::vector<std::int64_t>& shape_;
  std::size_t out_, in_;
  std::int64_t groups_;
};

/// The channel of an element: its index on an axis that may have those of one group alone, which the other axis tells.
struct ChannelOf {
  std::size_t axis, other;
  std::int64_t size, per_group;  // of the axis; of the other one, 0 where the axis has all channels

  ChannelOf(const MapShape& map, std::size_t own, std::size_t others, bool complete)
      : axis(own), other(others), size(map.size(own)), per_group(complete ? 0 : map.per_group(others)) {}

  std::size_t operator()(const Walk& walk) const {
    const std::int64_t first = per_group == 0 ? 0 : walk.index(other) / per_group * size;
    return static_cast<std::size_t>(first + walk.index(axis));
  }
};

/// A bias that is there.
template <class Bias>
Strided<scalar_of<Bias>> bias_elements(Bias& bias, std::int64_t channels) {
  auto result = strided<scalar_of<Bias>>(bias, true);
  std::int64_t stride = 0;
  for (std::size_t i = 0; i < result.shape.size(); ++i) {
    if (result.shape[i] != 1) stride = result.strides[i];
  }
  const bool flat = result.shape.size() == 1 || result.shape[0] == 1 || result.shape[1] == 1;
  require(flat && result.size() == channels, "expected a bias of size ", channels, ", got shape ",
          shape_text(result.shape));
  return {result.data, {channels}, {stride}};
}

/// Access to what a FrozenBatchNorm computes with.
struct Folding {
  template <class T, int Channels, class Weight, class Bias>
  static void into(const FrozenBatchNorm<T, Channels>& bn, Weight& weight, Bias&& bias, const WeightAxes& axes) {
    using A = typename FrozenBatchNorm<T, Channels>::Accumulator;
    const auto elements = strided<scalar_of<Weight>>(weight, false);
    const auto channels = static_cast<std::int64_t>(bn.channels());
    const MapShape map(elements.shape, axes);
    const ChannelOf channel(map, map.out(), map.in(), map.is_complete(map.out(), "output", channels));
    transform_bias<A>(bias, channels, [&](std::int64_t i, const A& b) {
      const auto c = static_cast<Eigen::Index>(i);
      return A((b - bn.mean_[c]) * bn.exact_scale_[c] + bn.bias_[c]);
    });
    transform<A>(elements, [&](const Walk& walk, const A& w) {
      return A(w * bn.exact_scale_[static_cast<Eigen::Index>(channel(walk))]);
    });
  }

  template <class T, int Channels, class Weight, class Bias>
  static void into_next(const FrozenBatchNorm<T, Channels>& bn, Weight& weight, Bias&& bias, const WeightAxes& axes) {
    using A = typename FrozenBatchNorm<T, Channels>::Accumulator;
    require(bn.activation() == Activation::none,
            "expected a layer without an activation to fold into the map after it, got one that stands in between");
    const auto elements = strided<scalar_of<Weight>>(weight, false);
    const auto channels = static_cast<std::int64_t>(bn.channels());
    const MapShape map(elements.shape, axes);
    const bool complete = map.is_complete(map.in(), "input", channels);
    const ChannelOf channel(map, map.in(), map.out(), complete);
    const bool all_outputs = map.groups() == 1 || !complete;
    const ChannelOf output(map, map.out(), map.in(), all_outputs);
    const std::int64_t outputs = map.size(map.out()) * (all_outputs ? 1 : map.groups());
    check_bias(bias, outputs);
    // What the shift of the inputs adds to each output.
    std::vector<A> added(static_cast<std::size_t>(outputs), A(0));
    transform<A>(elements, [&](const Walk& walk, const A& w) {
      const auto c = static_cast<Eigen::Index>(channel(walk));
      A& sum = added[output(walk)];
      sum = sum + w * (bn.bias_[c] - bn.mean_[c] * bn.exact_scale_[c]);
      return A(w * bn.exact_scale_[c]);
    });
    transform_bias<A>(bias, outputs,
                      [&](std::int64_t o, const A& b) { return A(b + added[static_cast<std::size_t>(o)]); });
  }

 private:
  template <class A, class T>
  static A widened(const T& value) {
    A result{};
    convert_element(value, result);
    return result;
  }

  // Makes each element what f(walk, element) is, computed in A.
  template <class A, class T, class F>
  static void transform(const Strided<T>& elements, const F& f) {
    Walk walk(elements);
    for (std::int64_t i = 0, n = elements.size(); i < n; ++i, walk.next()) {
      T& element = elements.data[walk.offset()];
      convert_element(f(walk, widened<A>(element)), element);
    }
  }

  template <class Bias>
  static void check_bias(Bias& bias, std::int64_t channels) {
    if constexpr (is_tensor<Bias> || is_dense<Bias>) bias_elements(bias, channels);
  }

  template <class A, class Bias, class F>
  static void transform_bias(Bias& bias, std::int64_t channels, const F& f) {
    if constexpr (is_tensor<Bias> || is_dense<Bias>) {
      const auto elements = bias_elements(bias, channels);
      transform<A>(elements, [&](const Walk& walk, const A& b) { return f(walk.index(0), b); });
    } else {
      bias.bias.resize(static_cast<Eigen::Index>(channels));
      for (Eigen::Index i = 0; i < bias.bias.size(); ++i) convert_element(f(i, A(0)), bias.bias(i));
    }
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FOLDING_HPP
