// The layer's backward: what it checks, and its passes. The forward and the state are in layer.hpp.

#ifndef BATCHNORM_DETAIL_LAYER_BACKWARD_HPP
#define BATCHNORM_DETAIL_LAYER_BACKWARD_HPP

#include "batchnorm/detail/layer.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::backward(const Device& device, int layout, const Input& x, const Input& dy, const Output& dx,
                              const Saved& forward, const GradientExtras& extras) {
  if (extras.extended != nullptr || forward.extended_.used) {
    const Extended* const table = extras.extended != nullptr ? extras.extended : extended;
    if (table == nullptr) {
      fail<std::logic_error>(
          "expected what the forward was handed, mask(m), sample_weight(w) or affine(weight, bias), after x and dy, "
          "or "
          "saved statistics of this layer");
    }
    return table->backward(*this, AnyDevice(device), layout, x, dy, dx, forward, extras);
  }
  const GradientTensors<T> tensors = checked_gradient(device, layout, x, dy, dx, forward, extras);
  const View& view = tensors.view;
  if (view.size() == 0) return;
  if (options.activation() != Activation::none) {
    FusedSettings<A> fused_settings = settings();
    fused_settings.has_output = extras.has_output;
    const Elements<const T>& y = extras.has_output ? tensors.output : tensors.x;
    return fused_backward(device, view, {{tensors.x, tensors.dy, y}, {tensors.dx, tensors.residual_grad}}, forward,
                          fused_settings);
  }
  if (tensors.residual_grad.data != nullptr && tensors.residual_grad.data != dy.data) {
    copy_elements(tensors.dy, view, tensors.residual_grad);
  }
  plain_backward(device, view, {{tensors.x, tensors.dy}, {tensors.dx}}, forward);
}

template <class T, int Dims>
template <class Device>
GradientTensors<T> Layer<T, Dims>::checked_gradient(const Device& device, int layout, const Input& x, const Input& dy,
                                                    const Output& dx, const Saved& forward,
                                                    const GradientExtras& extras) {
  const View view = checked_backward(layout, "x", x, dy, dx, forward);
  const bool activated = options.activation() != Activation::none;
  if (activated && forward.has_residual_ && !extras.has_output) {
    fail<std::logic_error>(
        "expected output(y) after x and dy: the forward had an activation and a residual, and x alone "
        "does not tell where their sum was above 0");
  }
  if (extras.has_output) check_shape("the output", extras.output.shape, "x", x.shape);
  if (extras.has_residual_grad) check_shape("the residual's gradient", extras.residual_grad.shape, "x", x.shape);
  if (activated) check_kept(forward);
  GradientTensors<T> result{view, {}, {}, {nullptr, 0, 0}, {}, {nullptr, 0, 0}};
  if (view.size() == 0) return result;
  result.x = elements_of(x, view, axis);
  result.dy = elements_of(dy, view, axis);
  result.dx = elements_of(dx, view, axis);
  check_overlap<T>("x", result.x, "dx", result.dx, view);
  check_overlap<T>("dy", result.dy, "dx", result.dx, view);
  if (extras.has_residual_grad) {
    result.residual_grad = checked_residual_grad(view, {{result.x, result.dy}, {result.dx}}, extras);
  }
  if (check_backward) check_sums(device, layout, view, result.x, forward);
  if (extras.has_output && activated) {
    result.output = elements_of(extras.output, view, axis);
    check_apart<T>("the output", result.output, "dx", result.dx, view);
  }
  return result;
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::backward_from_output(const Device& device, int layout, const Input& y, const Input& dy,
                                          const Output& dx, const Saved& forward) {
  if (forward.extended_.used) {
    fail<std::logic_error>(
        "expected a forward by the statistics of its whole batch or the running ones before backward_from_output, "
        "got "
        "one with a mask, weights, parameters of its own, ghost batches, renormalization or mixed statistics; use "
        "backward(x, dy)");
  }
  const View view = checked_backward(layout, "y", y, dy, dx, forward);
  check_kept(forward);
  if (forward.has_residual_) {
    fail<std::logic_error>(
        "expected a forward without a residual before backward_from_output: of a sum y does not tell "
        "x; use backward(x, dy, output(y))");
  }
  if (options.activation() == Activation::relu) {
    fail<std::logic_error>(
        "expected an activation that can be inverted for backward_from_output, none or leaky_relu with "
        "a slope above 0, got relu, which makes 0 of all below it; use backward(x, dy)");
  }
  for (Eigen::Index c = 0; c < channels(); ++c) check_invertible(c, forward.weight_(c), forward.bias_(c));
  if (view.size() == 0) return;
  const Elements<const T> y_elements = elements_of(y, view, axis), dy_elements = elements_of(dy, view, axis);
  const Elements<T> dx_elements = elements_of(dx, view, axis);
  check_overlap<T>("y", y_elements, "dx", dx_elements, view);
  check_overlap<T>("dy", dy_elements, "dx", dx_elements, view);
  FusedSettings<A> fused_settings = settings();
  fused_settings.has_output = fused_settings.from_output = true;
  fused_settings.inverse_slope = A(1) / fused_settings.slope;
  fused_backward(device, view, {{y_elements, dy_elements, y_elements}, {dx_elements, {nullptr, 0, 0}}}, forward,
                 fused_settings);
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::plain_backward(const Device& device, const View& view, const Operands<T, 2>& tensors,
                                    const Saved& forward) {
  const Operands<T, 1> dy_to_dx{{tensors.in[1]}, {tensors.out[0]}};
  const ChannelStatistics<A> statistics = forward.arrays();
  // The gradient through constant statistics is a normalization of dy.
  if (forward.constant() && !options.scale() && !options.shift()) {  // no sums to take
    const auto coefficients = coefficients_in_workspace();
    set_constant_gradient_coefficients(channels(), statistics, affine(0).weight, coefficients);
    return normalize(device, view, dy_to_dx,
                     [&](const Tile& tile, const auto& f) { f(from_channel(coefficients, tile.channel_begin)); });
  }
  const bool own_means = sums_about_own_means(forward);
  accumulate_gradients<T>(
      device, view, work_of_sums<T>(device, view, tensors.in, false), workspace,
      [&](const Tile& tile, const Prefetches& prefetches, const GradientSumArrays<A>& sums) {
        accumulate_gradients(view, tile, prefetches, tensors.in[0], tensors.in[1], statistics.mean(), own_means, sums);
      },
      [&](Index c, Index count, const GradientSumArrays<A>& sums, const GradientArrays<A>& coefficients) {
        set_gradient_coefficients(count, from_channel(statistics, c), sums, view.values_per_channel(), own_means,
                                  affine(c).weight, coefficients, scratch.dweight.data() + c, scratch.dbias.data() + c);
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
  add_parameter_gradients();
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::fused_backward(const Device& device, const View& view, const Operands<T, 3, 2>& tensors,
                                    const Saved& forward, FusedSettings<A> fused_settings) {
  const ChannelStatistics<A> statistics = forward.arrays();
  const Affine<A> parameters{forward.weight_.data(), forward.bias_.data()};
  fused_settings.constant = forward.constant();
  forward_workspace.resize(static_cast<std::size_t>(NormalizeArrays<A>::count * channels()));
  const auto recomputed = quantities_in<NormalizeArrays<A>>(forward_workspace.data(), channels());
  if (!fused_settings.has_output) set_normalize_coefficients(channels(), statistics, parameters, recomputed);
  const bool own_means = sums_about_own_means(forward), from_output = fused_settings.from_output;
  const A* const means = from_output ? parameters.bias : statistics.mean();
  Work work = work_of_sums<T>(device, view, tensors.in, true);
  if (!fused_settings.has_output || from_output) work.tensors = 2;
  accumulate_gradients<T>(
      device, view, work, workspace,
      [&](const Tile& tile, const Prefetches& prefetches, const GradientSumArrays<A>& sums) {
        fused->accumulate_gradients(view, tile, prefetches, tensors.in, means, own_means, recomputed, fused_settings,
                                    sums);
      },
      [&](Index c, Index count, const GradientSumArrays<A>& sums, const GradientArrays<A>& coefficients) {
        A *const dweight = scratch.dweight.data() + c, *const dbias = scratch.dbias.data() + c;
        if (from_output) {
          set_gradient_coefficients_from_output(
              count, from_channel(statistics, c), Affine<A>{parameters.weight + c, parameters.bias + c}, sums,
              view.values_per_channel(), own_means, affine(c).weight, coefficients, dweight, dbias);
        } else {
          set_gradient_coefficients(count, from_channel(statistics, c), sums, view.values_per_channel(), own_means,
                                    affine(c).weight, coefficients, dweight, dbias);
        }
      },
      [&](const Tile& tile, const Prefetches& prefetches, const GradientArrays<A>& coefficients) {
        fused->apply_gradients(view, tile, prefetches, coefficients, from_channel(recomputed, tile.channel_begin),
                               tensors, fused_settings);
      });
  add_parameter_gradients();
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::set_sums(const Device& device, const View& view, const Elements<const T>& x,
                              std::vector<A>& sums) {
  const auto all = quantities_in<MomentSums<A>>(sums.data(), channels());
  accumulate_moments<summand_t<T>>(
      device, view, x, workspace,
      [&](Index c, Index count, const MomentSums<A>& found, const NormalizeArrays<A>&) {
        for (int i = 0; i < MomentSums<A>::count; ++i) std::copy_n(found.arrays[i], count, all.arrays[i] + c);
      },
      NoPass());
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::keep_sums(const Device& device, int layout, const View& view, const Elements<const T>& x) {
  // All three at once, so that the next call finds them.
  for (std::vector<A>* sums : {&saved.sums_, &scratch.saved.sums_, &scratch.sums}) {
    sums->resize(static_cast<std::size_t>(MomentSums<A>::count * channels()));
  }
  scratch.saved.layout_ = layout;
  if (view.size() != 0) set_sums(device, view, x, scratch.saved.sums_);
}

template <class T, int Dims>
template <class Device>
void Layer<T, Dims>::check_sums(const Device& device, int layout, const View& view, const Elements<const T>& x,
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

template <class T, int Dims>
BATCHNORM_COLD void Layer<T, Dims>::fail_for_another_x(const View& view, Index c, const std::vector<A>& kept) const {
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

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_LAYER_BACKWARD_HPP
