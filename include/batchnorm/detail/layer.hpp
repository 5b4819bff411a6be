// The state of a layer and its passes over tensors whose type no longer matters.

#ifndef BATCHNORM_DETAIL_LAYER_HPP
#define BATCHNORM_DETAIL_LAYER_HPP

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/movable_flag.hpp"
#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/saved_statistics.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Decides which statistics normalize an x of this shape. Throws where they would be those of a single value and the
/// options call that an error.
template <class Shape>
StatisticsKind statistics_for(bool training, const BatchNormOptions& options, Index values_per_channel,
                              const Shape& shape) {
  if (!training && options.track_running_stats()) return StatisticsKind::running;
  if (values_per_channel != 1) return StatisticsKind::batch;
  require(options.single_value() != SingleValue::error,
          "expected more than one value per channel to take statistics of, got shape ", shape_text(shape),
          " (see BatchNormOptions::single_value)");
  return options.single_value() == SingleValue::use_running ? StatisticsKind::running : StatisticsKind::batch;
}

/// Whether a training forward over so many values per channel enters the running statistics: an empty batch has nothing
/// to say, and what a single value says the options decide.
inline bool enters_running_stats(const BatchNormOptions& options, Index values_per_channel) {
  if (!options.track_running_stats() || values_per_channel == 0) return false;
  return values_per_channel != 1 || options.single_value() == SingleValue::allow;
}

template <class A, class = void>
inline constexpr bool is_printable = false;
template <class A>
inline constexpr bool
    is_printable<A, std::void_t<decltype(std::declval<std::ostream&>() << std::declval<const A&>())>> = true;

/// What an error message says of a channel: its mean and variance, from its sums over n values.
template <class A>
struct MomentsText {
  A pivot, sum, squares;
  Index n;

  friend std::ostream& operator<<(std::ostream& out, const MomentsText& text) {
    using One = typename AlgebraPack<A>::One;
    const One inverse_n = One::all(A(1) / number<A>(text.n));
    const auto moments = moments_of(One::all(text.pivot), One::all(text.sum), One::all(text.squares), inverse_n);
    return out << "mean " << moments.mean.v[0] << " and variance " << (moments.M2 * inverse_n).v[0];
  }
};

/// What BatchNorm<T, Dims> is made of. Every call computes what it will change into `scratch`, and changes the layer by
/// swaps that cannot throw, when all is done.
template <class T, int Dims>
struct Layer {
  using A = accumulator_t<T>;
  using Param = param_t<T>;
  using Vector = Eigen::Tensor<Param, 1>;
  using Input = TensorView<const T, Dims>;
  using Output = TensorView<T, Dims>;
  using Saved = SavedStatistics<A, Dims>;

  struct Scratch {
    Saved saved{};
    Vector running_mean{}, running_var{}, weight_grad{}, bias_grad{};
    Eigen::Tensor<A, 1> M2{}, dweight{}, dbias{};
    std::vector<A> sums{};  // those over the x of a backward, for check_backward
  };

  BatchNormOptions options;
  int axis;
  bool training = true;
  bool check_backward = false;
  MovableFlag whole = true;  // false once the layer was moved from
  std::int64_t num_batches_tracked = 0;
  Vector weight{}, bias{}, weight_grad{}, bias_grad{}, running_mean{}, running_var{};
  Saved saved{};
  Scratch scratch{};
  Workspace<A> workspace{};

  explicit Layer(const BatchNormOptions& given) : options(given), axis(normalized_axis(given.channel_axis(), Dims)) {
    require(given.track_running_stats() || given.single_value() != SingleValue::use_running,
            "expected track_running_stats(true) for single_value(SingleValue::use_running), got false");
    const Eigen::Index scaled = given.scale() ? channels() : 0, shifted = given.shift() ? channels() : 0;
    const Eigen::Index tracked = given.track_running_stats() ? channels() : 0;
    for (Vector* vector : {&weight, &weight_grad, &scratch.weight_grad}) vector->resize(scaled);
    for (Vector* vector : {&bias, &bias_grad, &scratch.bias_grad}) vector->resize(shifted);
    for (Vector* vector : {&running_mean, &running_var, &scratch.running_mean, &scratch.running_var}) {
      vector->resize(tracked);
    }
    for (auto* vector : {&scratch.M2, &scratch.dweight, &scratch.dbias}) vector->resize(channels());
    saved.resize(channels());
    scratch.saved.resize(channels());
  }

  Layer(const Layer&) = default;
  Layer& operator=(const Layer&) = default;
  // Eigen's moves of tensors swap pointers and cannot throw, but are not declared so. A vector of layers copies them as
  // it grows, unless their moves are.
  Layer(Layer&&) noexcept = default;
  Layer& operator=(Layer&&) noexcept = default;
  ~Layer() = default;

  Eigen::Index channels() const { return options.num_features(); }

  // --- Passes. `layout` is that of all tensors of a call.

  template <class Device>
  void forward(const Device& device, int layout, const Input& x, const Output& y) {
    const View view = check_input(x.shape, layout);
    check_shape("y", y.shape, "x", x.shape);
    const auto x_elements = elements_of(x, view, axis);
    const Operands<T, 1> x_to_y{{x_elements}, {elements_of(y, view, axis)}};
    check_overlap<T>("x", x_elements, "y", x_to_y.out[0], view);
    const StatisticsKind kind = statistics_for(training, options, view.values_per_channel(), x.shape);
    if (check_backward) keep_sums(device, layout, view, x_elements);
    if (view.size() == 0) {
      // Nothing to compute.
    } else if (kind == StatisticsKind::batch) {
      normalize_by_batch(device, view, x_to_y, workspace, [&](Index c, Index count, const MomentSums<A>& sums) {
        const auto statistics = from_channel(scratch.saved.arrays(), c);
        set_batch_statistics(count, sums, view.values_per_channel(), options.epsilon(), statistics,
                             scratch.M2.data() + c);
        return statistics;
      });
    } else {
      const ChannelStatistics<A> statistics = scratch.saved.arrays();
      set_running_statistics(channels(), running_mean.data(), running_var.data(), options.epsilon(), statistics);
      const auto coefficients = coefficients_in_workspace();
      set_normalize_coefficients(channels(), statistics, affine(0), coefficients);
      normalize(device, view, x_to_y,
                [&](const Tile& tile, const auto& f) { f(from_channel(coefficients, tile.channel_begin)); });
    }
    scratch.saved.shape_ = x.shape;
    scratch.saved.kind_ = kind;
    scratch.saved.has_forward_ = true;
    scratch.saved.has_sums_ = check_backward && view.size() != 0;
    if (training && enters_running_stats(options, view.values_per_channel()))
      update_running_stats(view.values_per_channel());
    saved.swap(scratch.saved);
  }

  template <class Device>
  void infer(const Device& device, int layout, const Input& x, const Output& y) const {
    const View view = check_input(x.shape, layout);
    check_shape("y", y.shape, "x", x.shape);
    const auto x_elements = elements_of(x, view, axis);
    const Operands<T, 1> x_to_y{{x_elements}, {elements_of(y, view, axis)}};
    check_overlap<T>("x", x_elements, "y", x_to_y.out[0], view);
    const StatisticsKind kind = statistics_for(false, options, view.values_per_channel(), x.shape);
    if (view.size() == 0) return;
    if (kind == StatisticsKind::batch) {
      normalize_by_batch(device, view, x_to_y, NoWorkspace(), [&](Index, Index count, const MomentSums<A>& sums) {
        // In place of the sums, which are read before.
        ChannelStatistics<A> statistics;
        std::copy_n(sums.arrays, ChannelStatistics<A>::count, statistics.arrays);
        set_batch_statistics(count, sums, view.values_per_channel(), options.epsilon(), statistics,
                             static_cast<A*>(nullptr));
        return statistics;
      });
    } else {
      normalize(device, view, x_to_y, [&](const Tile& tile, const auto& f) {
        constexpr Index most = max_columns<A>;
        A memory[static_cast<std::size_t>(3 * most)];
        const NormalizeArrays<A> coefficients{{{memory, nullptr, memory + most, memory + 2 * most}}};
        const Index c = tile.channel_begin, count = tile.channels();
        set_running_coefficients(count, running_mean.data() + c, running_var.data() + c, options.epsilon(), affine(c),
                                 coefficients);
        f(coefficients);
      });
    }
  }

  // statistics_of(c, count, sums) gives those of `count` channels from c on.
  template <class Device, class Memory, class StatisticsOf>
  void normalize_by_batch(const Device& device, const View& view, const Operands<T, 1>& x_to_y, Memory&& memory,
                          const StatisticsOf& statistics_of) const {
    accumulate_moments<summand_t<T>>(
        device, view, x_to_y.in[0], memory,
        [&](Index c, Index count, const MomentSums<A>& sums, const NormalizeArrays<A>& coefficients) {
          set_normalize_coefficients(count, statistics_of(c, count, sums), affine(c), coefficients);
        },
        [&](const Tile& tile, const Prefetches& prefetches, const NormalizeArrays<A>& coefficients) {
          normalize(view, tile, prefetches, coefficients, x_to_y);
        });
  }

  template <class Device>
  void backward(const Device& device, int layout, const Input& x, const Input& dy, const Output& dx,
                const Saved& forward) {
    if (!forward.has_forward()) fail<std::logic_error>("expected a forward before backward, got none");
    const View view = check_input(x.shape, layout);
    check_shape("x", x.shape, "x in its forward", forward.shape());
    check_vector("mean in the saved statistics", forward.mean(), true);
    check_shape("dy", dy.shape, "x", x.shape);
    check_shape("dx", dx.shape, "x", x.shape);
    if (view.size() == 0) return;
    const Operands<T, 2> tensors{{elements_of(x, view, axis), elements_of(dy, view, axis)},
                                 elements_of(dx, view, axis)};
    const Operands<T, 1> dy_to_dx{{tensors.in[1]}, {tensors.out[0]}};
    check_overlap<T>("x", tensors.in[0], "dx", tensors.out[0], view);
    check_overlap<T>("dy", tensors.in[1], "dx", tensors.out[0], view);
    if (check_backward) check_sums(device, layout, view, tensors.in[0], forward);

    const ChannelStatistics<A> statistics = forward.arrays();
    // The gradient through constant statistics is a normalization of dy.
    if (forward.constant() && !options.scale() && !options.shift()) {  // no sums to take
      const auto coefficients = coefficients_in_workspace();
      set_constant_gradient_coefficients(channels(), statistics, affine(0).weight, coefficients);
      return normalize(device, view, dy_to_dx,
                       [&](const Tile& tile, const auto& f) { f(from_channel(coefficients, tile.channel_begin)); });
    }
    // Of 16-bit numbers the means are known for more digits than any sum would tell.
    const bool own_means = !forward.constant() && !is_16_bit<T>;
    accumulate_gradients(
        device, view, tensors.in[0], tensors.in[1], statistics.mean(), own_means, workspace,
        [&](Index c, Index count, const GradientSumArrays<A>& sums, const GradientArrays<A>& coefficients) {
          set_gradient_coefficients(count, from_channel(statistics, c), sums, view.values_per_channel(), own_means,
                                    affine(c).weight, coefficients, scratch.dweight.data() + c,
                                    scratch.dbias.data() + c);
          if (forward.constant()) {
            set_constant_gradient_coefficients(count, from_channel(statistics, c), affine(c).weight,
                                               normalization_in(coefficients));
          }
        },
        [&](const Tile& tile, const Prefetches& prefetches, const GradientArrays<A>& coefficients) {
          if (forward.constant()) {
            normalize(view, tile, {prefetches.dy, {}}, normalization_in(coefficients), dy_to_dx);
          } else {
            apply_gradients(view, tile, prefetches, coefficients, tensors);
          }
        });
    for (Eigen::Index c = 0; c < weight.size(); ++c) scratch.weight_grad(c) = sum(weight_grad(c), scratch.dweight(c));
    for (Eigen::Index c = 0; c < bias.size(); ++c) scratch.bias_grad(c) = sum(bias_grad(c), scratch.dbias(c));
    exchange(weight_grad, scratch.weight_grad);
    exchange(bias_grad, scratch.bias_grad);
  }

  // --- Per channel.

  // Coefficients of all channels, in memory that the layer keeps.
  NormalizeArrays<A> coefficients_in_workspace() {
    workspace.resize(static_cast<std::size_t>(NormalizeArrays<A>::count * channels()));
    return quantities_in<NormalizeArrays<A>>(workspace.data(), channels());
  }

  // The coefficients of a normalization in the place of a gradient's.
  static NormalizeArrays<A> normalization_in(const GradientArrays<A>& coefficients) {
    NormalizeArrays<A> result;
    std::copy_n(coefficients.arrays, NormalizeArrays<A>::count, result.arrays);
    return result;
  }

  Affine<Param> affine(Index c) const {
    return {options.scale() ? weight.data() + c : nullptr, options.shift() ? bias.data() + c : nullptr};
  }

  // Element by element: the user may keep pointers to the layer's own.
  static void exchange(Vector& a, Vector& b) {
    using std::swap;
    for (Eigen::Index c = 0; c < a.size(); ++c) swap(a(c), b(c));
  }

  static Param sum(const Param& a, const A& b) { return static_cast<Param>(A(a) + b); }

  // For a batch of n values per channel, whose moments are in scratch.
  void update_running_stats(Index n) {
    const std::int64_t batches = next_count(num_batches_tracked);
    const A momentum = options.momentum() ? number<A>(*options.momentum()) : A(A(1) / number<A>(batches));
    set_moving_average(
        channels(), running_mean.data(), momentum,
        [&](auto type, Index c) { return load<typename decltype(type)::Pack>(scratch.saved.arrays().mean() + c); },
        scratch.running_mean.data());
    set_moving_average(
        channels(), running_var.data(), momentum,
        [&](auto type, Index c) {
          const auto M2 = load<typename decltype(type)::Pack>(scratch.M2.data() + c);
          return variance_of(M2, n, options.running_variance());
        },
        scratch.running_var.data());
    exchange(running_mean, scratch.running_mean);
    exchange(running_var, scratch.running_var);
    num_batches_tracked = batches;
  }

  // One more, unless the type has no such number.
  static std::int64_t next_count(std::int64_t count) {
    return count == (std::numeric_limits<std::int64_t>::max)() ? count : count + 1;
  }

  // --- check_backward: a forward keeps sums over its x, and backward compares them with those over the x that it is
  // given. The sums of the same values in the same layout are the same on any device, whatever is in the tensor.

  template <class Device>
  void set_sums(const Device& device, const View& view, const Elements<const T>& x, std::vector<A>& sums) {
    const auto all = quantities_in<MomentSums<A>>(sums.data(), channels());
    accumulate_moments<summand_t<T>>(
        device, view, x, workspace,
        [&](Index c, Index count, const MomentSums<A>& found, const NormalizeArrays<A>&) {
          for (int i = 0; i < MomentSums<A>::count; ++i) std::copy_n(found.arrays[i], count, all.arrays[i] + c);
        },
        NoPass());
  }

  template <class Device>
  void keep_sums(const Device& device, int layout, const View& view, const Elements<const T>& x) {
    // All three at once, so that the next call finds them.
    for (std::vector<A>* sums : {&saved.sums_, &scratch.saved.sums_, &scratch.sums}) {
      sums->resize(static_cast<std::size_t>(MomentSums<A>::count * channels()));
    }
    scratch.saved.layout_ = layout;
    if (view.size() != 0) set_sums(device, view, x, scratch.saved.sums_);
  }

  template <class Device>
  void check_sums(const Device& device, int layout, const View& view, const Elements<const T>& x,
                  const Saved& forward) {
    // In the other layout the same values are summed in another order, so that the last digits differ.
    if (!forward.has_sums_ || forward.layout_ != layout) return;
    const auto size = static_cast<std::size_t>(MomentSums<A>::count * channels());
    if (forward.sums_.size() != size) return;  // statistics that were moved onto themselves
    scratch.sums.resize(size);
    set_sums(device, view, x, scratch.sums);
    for (Index c = 0; c < channels(); ++c) {
      for (int i = 0; i < MomentSums<A>::count; ++i) {
        const auto k = static_cast<std::size_t>(i * channels() + c);
        if (!same_or_nan(scratch.sums[k], forward.sums_[k])) fail_for_another_x(view, c, forward.sums_);
      }
    }
  }

  // What makes a NaN decides its sign and payload, and for sums that is the order in which a compiler takes operands.
  static bool same_or_nan(const A& a, const A& b) { return a == b || (!(a == a) && !(b == b)); }

  [[noreturn]] BATCHNORM_COLD void fail_for_another_x(const View& view, Index c, const std::vector<A>& kept) const {
    constexpr const char* mistake = "; a common mistake is to hand in the output of the forward in place of its input";
    if constexpr (is_printable<A>) {
      const auto text = [&](const std::vector<A>& sums) {
        const auto at = [&](Index kind) { return sums[static_cast<std::size_t>(kind * channels() + c)]; };
        return MomentsText<A>{at(0), at(1), at(2), view.values_per_channel()};
      };
      fail<std::logic_error>("expected the x that went into the forward, got another tensor: its channel ", c, " has ",
                             text(scratch.sums), ", that of x had ", text(kept), mistake);
    } else {
      fail<std::logic_error>("expected the x that went into the forward, got another tensor: its channel ", c,
                             " has other values", mistake);
    }
  }

  // --- Checks.

  View check_input(const Shape<Dims>& shape, int layout) const {
    check_whole();
    const Index found = shape[static_cast<std::size_t>(axis)];
    require(found == channels(), "expected ", channels(), " channels on axis ", axis, ", got ", found, " in shape ",
            shape_text(shape), OtherAxisText<Shape<Dims>>{shape, channels(), axis, true});
    check_parameters();
    check_vector("weight_grad", weight_grad, options.scale());
    check_vector("bias_grad", bias_grad, options.shift());
    return make_view(shape, layout, axis);
  }

  void check_whole() const {
    if (!whole) fail<std::logic_error>("expected a layer, got one that was moved from");
  }

  // Parameters and running statistics.
  void check_parameters() const {
    check_vector("weight", weight, options.scale());
    check_vector("bias", bias, options.shift());
    check_vector("running_mean", running_mean, options.track_running_stats());
    check_vector("running_var", running_var, options.track_running_stats());
  }

  template <class AnyVector>
  void check_vector(const char* name, const AnyVector& vector, bool used) const {
    const Index expected = used ? channels() : 0;
    require(vector.size() == expected, "expected ", name, " of size ", expected, ", got ", vector.size());
  }

  static void check_shape(const char* name, const Shape<Dims>& shape, const char* other, const Shape<Dims>& expected) {
    require(shape == expected, "expected ", name, " of the shape of ", other, ", ", shape_text(expected), ", got ",
            shape_text(shape));
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_LAYER_HPP
