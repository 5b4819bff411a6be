// The state of a layer and its passes over tensors whose type no longer matters.

#ifndef BATCHNORM_DETAIL_LAYER_HPP
#define BATCHNORM_DETAIL_LAYER_HPP

#include <cstdint>
#include <utility>

#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/saved_statistics.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A tensor as the passes see it.
template <class T, int Dims>
struct TensorView {
  T* data;
  Shape<Dims> shape;
};

template <class T, class X>
TensorView<T, rank_of<X>> view_tensor(X& x) {
  return {x.data(), shape_of(x)};
}

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
  };

  BatchNormOptions options;
  int axis;
  bool training = true;
  std::int64_t num_batches_tracked = 0;
  Vector weight{}, bias{}, weight_grad{}, bias_grad{}, running_mean{}, running_var{};
  Saved saved{};
  Scratch scratch{};
  Workspace<A> workspace{};

  explicit Layer(const BatchNormOptions& given) : options(given), axis(normalized_axis(given.channel_axis(), Dims)) {
    require(given.track_running_stats() || given.single_value() != SingleValue::use_running,
            "expected track_running_stats(true) for single_value(SingleValue::use_running), got false");
    const Index scaled = given.scale() ? channels() : 0, shifted = given.shift() ? channels() : 0;
    const Index tracked = given.track_running_stats() ? channels() : 0;
    for (Vector* vector : {&weight, &weight_grad, &scratch.weight_grad}) vector->resize(scaled);
    for (Vector* vector : {&bias, &bias_grad, &scratch.bias_grad}) vector->resize(shifted);
    for (Vector* vector : {&running_mean, &running_var, &scratch.running_mean, &scratch.running_var}) {
      vector->resize(tracked);
    }
    for (auto* vector : {&scratch.M2, &scratch.dweight, &scratch.dbias}) vector->resize(channels());
    saved.resize(channels());
    scratch.saved.resize(channels());
  }

  Index channels() const { return options.num_features(); }

  // --- Passes. `layout` is that of all tensors of a call.

  template <class Device>
  void forward(const Device& device, int layout, const Input& x, const Output& y) {
    const View view = check_input(x.shape, layout);
    check_shape("y", y.shape, "x", x.shape);
    check_overlap<T>("x", x.data, "y", y.data, view.size());
    const bool by_batch = uses_batch(training, x.shape, view);
    if (view.size() == 0) {
      // Nothing to compute.
    } else if (by_batch) {
      normalize_by_batch(device, view, x.data, y.data, &workspace,
                         [&](Index c, Index count, const MomentSums<A>& sums) {
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
      normalize(device, view, x.data, y.data,
                [&](const Tile& tile, const auto& f) { f(from_channel(coefficients, tile.channel_begin)); });
    }
    scratch.saved.shape_ = x.shape;
    scratch.saved.constant_ = !by_batch;
    scratch.saved.overwritten_ = x.data == y.data ? x.data : nullptr;
    scratch.saved.has_forward_ = true;
    if (training && options.track_running_stats()) update_running_stats(view.values_per_channel());
    std::swap(saved, scratch.saved);
  }

  template <class Device>
  void infer(const Device& device, int layout, const Input& x, const Output& y) const {
    const View view = check_input(x.shape, layout);
    check_shape("y", y.shape, "x", x.shape);
    check_overlap<T>("x", x.data, "y", y.data, view.size());
    const bool by_batch = uses_batch(false, x.shape, view);
    if (view.size() == 0) return;
    if (by_batch) {
      normalize_by_batch(device, view, x.data, y.data, nullptr, [&](Index, Index count, const MomentSums<A>& sums) {
        // In place of the sums, which are read before.
        ChannelStatistics<A> statistics;
        std::copy_n(sums.arrays, ChannelStatistics<A>::count, statistics.arrays);
        set_batch_statistics(count, sums, view.values_per_channel(), options.epsilon(), statistics,
                             static_cast<A*>(nullptr));
        return statistics;
      });
    } else {
      normalize(device, view, x.data, y.data, [&](const Tile& tile, const auto& f) {
        A memory[NormalizeArrays<A>::count * max_columns<A>];
        const auto coefficients = quantities_in<NormalizeArrays<A>>(memory, max_columns<A>);
        // In their place, before they are computed: mean, mean_residual and, where the scale will be, inv_std.
        const auto statistics = quantities_in<ChannelStatistics<A>>(memory, max_columns<A>);
        const Index c = tile.channel_begin, count = tile.channels();
        set_running_statistics(count, running_mean.data() + c, running_var.data() + c, options.epsilon(), statistics);
        set_normalize_coefficients(count, statistics, affine(c), coefficients);
        f(coefficients);
      });
    }
  }

  // statistics_of(c, count, sums) gives those of `count` channels from c on.
  template <class Device, class StatisticsOf>
  void normalize_by_batch(const Device& device, const View& view, const T* x, T* y, Workspace<A>* memory,
                          const StatisticsOf& statistics_of) const {
    accumulate_moments<summand_t<T>>(
        device, view, x, memory,
        [&](Index c, Index count, const MomentSums<A>& sums, const NormalizeArrays<A>& coefficients) {
          set_normalize_coefficients(count, statistics_of(c, count, sums), affine(c), coefficients);
        },
        [&](const Tile& tile, const Prefetches& prefetches, const NormalizeArrays<A>& coefficients) {
          normalize(view, tile, prefetches, coefficients, x, y);
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
    if (forward.overwritten_ == x.data) {
      fail<std::logic_error>(
          "expected the x that went into the forward, got the buffer that the forward, done in place, overwrote with "
          "y");
    }
    check_overlap<T>("x", x.data, "dx", dx.data, view.size());
    check_overlap<T>("dy", dy.data, "dx", dx.data, view.size());

    const ChannelStatistics<A> statistics = forward.arrays();
    // The gradient through constant statistics is a normalization of dy.
    if (forward.constant() && !options.scale() && !options.shift()) {  // no sums to take
      const auto coefficients = coefficients_in_workspace();
      set_constant_gradient_coefficients(channels(), statistics, affine(0).weight, coefficients);
      return normalize(device, view, dy.data, dx.data,
                       [&](const Tile& tile, const auto& f) { f(from_channel(coefficients, tile.channel_begin)); });
    }
    // Of 16-bit numbers the means are known for more digits than any sum would tell.
    const bool own_means = !forward.constant() && !is_16_bit<T>;
    accumulate_gradients(
        device, view, x.data, dy.data, statistics.mean(), own_means, &workspace,
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
            normalize(view, tile, {prefetches.dy, {}}, normalization_in(coefficients), dy.data, dx.data);
          } else {
            apply_gradients(view, tile, prefetches, coefficients, x.data, dy.data, dx.data);
          }
        });
    for (Index c = 0; c < weight.size(); ++c) scratch.weight_grad(c) = sum(weight_grad(c), scratch.dweight(c));
    for (Index c = 0; c < bias.size(); ++c) scratch.bias_grad(c) = sum(bias_grad(c), scratch.dbias(c));
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
    for (Index c = 0; c < a.size(); ++c) swap(a(c), b(c));
  }

  static Param sum(const Param& a, const A& b) { return static_cast<Param>(A(a) + b); }

  // For a batch of n values per channel, whose moments are in scratch unless there were none or they were not used.
  void update_running_stats(Index n) {
    if (n == 1 && options.single_value() != SingleValue::allow) return;
    if (n != 0) {
      const A momentum =
          options.momentum() ? number<A>(*options.momentum()) : A(A(1) / number<A>(num_batches_tracked + 1));
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
    }
    ++num_batches_tracked;
  }

  // --- Checks.

  // Whether the statistics of x are used, not the running ones.
  bool uses_batch(bool train, const Shape<Dims>& shape, const View& view) const {
    if (!train && options.track_running_stats()) return false;
    if (view.values_per_channel() != 1) return true;
    require(options.single_value() != SingleValue::error,
            "expected more than one value per channel to take statistics of, got shape ", shape_text(shape),
            " (see BatchNormOptions::single_value)");
    return options.single_value() != SingleValue::use_running;
  }

  View check_input(const Shape<Dims>& shape, int layout) const {
    const Index found = shape[static_cast<std::size_t>(axis)];
    require(found == channels(), "expected ", channels(), " channels on axis ", axis, ", got ", found, " in shape ",
            shape_text(shape));
    check_vector("weight", weight, options.scale());
    check_vector("bias", bias, options.shift());
    check_vector("weight_grad", weight_grad, options.scale());
    check_vector("bias_grad", bias_grad, options.shift());
    check_vector("running_mean", running_mean, options.track_running_stats());
    check_vector("running_var", running_var, options.track_running_stats());
    return make_view(shape, layout, axis);
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
