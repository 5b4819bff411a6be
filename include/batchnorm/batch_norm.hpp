// The layer.

#ifndef BATCHNORM_BATCH_NORM_HPP
#define BATCHNORM_BATCH_NORM_HPP

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "batchnorm/as_vector.hpp"
#include "batchnorm/detail/call.hpp"
#include "batchnorm/detail/extended_layer.hpp"
#include "batchnorm/detail/interface/values.hpp"
#include "batchnorm/detail/layer_backward.hpp"
#include "batchnorm/frozen_batch_norm.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/running_statistics.hpp"
#include "batchnorm/saved_statistics.hpp"
#include "batchnorm/statistics.hpp"
#include "batchnorm/tags.hpp"

BATCHNORM_NAMESPACE_BEGIN

class StateDict;
struct StateNames;
template <class P>
struct Parameter;

/// Batch normalization of Eigen tensors and matrices (Ioffe and Szegedy, arXiv 1502.03167): each channel is shifted and
/// scaled to mean 0 and variance 1, then by a learnable weight (gamma) and bias (beta).
///
///     y = (x - mean) / sqrt(variance + epsilon) * weight + bias
///
/// In training the mean and the biased variance are those of the batch, of which running averages are kept; in
/// inference they are those averages.
///
///     #include <batchnorm/batchnorm.hpp>
///
///     int main() {
///       batchnorm::BatchNorm<float, 4> bn(64);  // 64 channels; rank 4, e.g. N,C,H,W
///       Eigen::Tensor<float, 4, Eigen::RowMajor> x(32, 64, 56, 56), dy(32, 64, 56, 56);
///       x.setRandom();
///       dy.setRandom();
///       auto y = bn.forward(x);        // training: batch statistics, running ones updated
///       auto dx = bn.backward(x, dy);  // also adds into weight_grad(), bias_grad()
///       auto z = bn.infer(x);          // inference: running statistics; any number of threads may call it at once
///     }
///
/// `T` is the tensors' scalar: float, double, Eigen::half or Eigen::bfloat16 by vector kernels, any other real number
/// by a plain path. `Dims` is their rank, at least 2. The channel axis is 1 unless the options say otherwise.
///
/// Inputs are RowMajor or ColMajor tensors of any kind: Tensor, TensorFixedSize, TensorMap, also of const, which are
/// read in place, or any expression of them, which is evaluated into one temporary. A layer of rank 2 takes Eigen's
/// matrices and arrays too, with samples in rows (axis 0) and features in columns (axis 1) unless channel_axis(0) says
/// otherwise: Matrix, Array, Map, Ref and blocks with any outer stride in place, anything else evaluated once. What is
/// a vector by its type is one sample of size() channels, on either axis. Where the first argument is an Eigen device,
/// the work is done on its threads; the results are the same bits on any number of them.
///
/// Calls that write into the caller's memory allocate nothing after the first with a shape. A call that throws before
/// it begins to compute has changed nothing; if a task on the caller's device throws, that exception comes out of the
/// call, the layer is as before, and the contents of the output are unspecified.
///
/// Copies are independent layers. A layer that was moved from may be destroyed or assigned to; what its vectors hold is
/// unspecified, and `forward`, `infer` and `backward` throw std::logic_error.
///
/// One layer may be used by one thread at a time, save for `infer`, which any number of threads may call at once as
/// long as no one changes the layer. To serve a trained layer from several threads call `infer`, not `eval` and
/// `forward`: in either mode `forward` writes to the layer what its `backward` needs, and two of them at once are a
/// data race.
template <class T, int Dims>
class BatchNorm {
  static_assert(detail::check_scalar_type<T>() || !detail::is_real<T>, "the check has said what is wrong");
  static_assert(Dims >= 2, "batchnorm: Dims is the rank of the tensors, at least 2");

 public:
  /// The scalar of inputs, outputs and their gradients.
  using Scalar = T;
  /// Sums, statistics and per-channel algebra: double for float, double and the 16-bit types, else T.
  using Accumulator = detail::accumulator_t<T>;
  /// Parameters, running statistics and gradients of parameters: float for the 16-bit types, else T.
  using Param = detail::param_t<T>;
  /// One Param per channel.
  using Vector = Eigen::Tensor<Param, 1>;
  /// Eigen's signed type of sizes.
  using Index = Eigen::Index;
  /// What a forward leaves for its backward.
  using SavedStatistics = batchnorm::SavedStatistics<Accumulator, Dims>;
  /// The running statistics as a value.
  using RunningStatistics = batchnorm::RunningStatistics<Param>;

  /// A layer in training mode with weight 1, bias 0, running mean 0 and running variance 1. Throws
  /// std::invalid_argument if tensors of rank Dims have no such channel axis, or if SingleValue::use_running is asked
  /// for without running statistics.
  BatchNorm(const BatchNormOptions& options)  // NOLINT(google-explicit-constructor)
      : layer_(options, nullptr, nullptr) {}

  /// The same with options that have an activation, ghost batches or renormalization.
  template <bool Fused, bool Grouped>
  BatchNorm(const ExtendedBatchNormOptions<Fused, Grouped>& options)  // NOLINT(google-explicit-constructor)
      : layer_(options, fused_kernels<Fused>(), extended_table<Grouped>()) {}

  /// The same with the default options for so many channels, at least 1. Implicit, so that `BatchNorm<float, 4> bn =
  /// 64` works.
  BatchNorm(Index num_features)  // NOLINT(google-explicit-constructor)
      : BatchNorm(BatchNormOptions(num_features)) {}

  /// A layer that takes its number of channels from what comes first: a `forward` in training, or weight, bias or
  /// running statistics by their setters. With other settings than the defaults, `BatchNorm(BatchNormOptions()...)` is
  /// one too.
  ///
  ///     batchnorm::BatchNorm<float, 4> bn;
  ///     auto y = bn.forward(x);  // bn.options().num_features() is that of x from here on
  ///
  /// Until then options().num_features() is 0, all vectors of the state are empty, and inference, a `backward` and
  /// `frozen` are std::logic_error. A `forward` or setter that throws leaves the layer as it was.
  BatchNorm() : BatchNorm(BatchNormOptions()) {}

  /// The settings, as they were given; the number of channels once it is known.
  const BatchNormOptions& options() const { return layer_.options; }

  /// \name State
  /// The user may write to all of these. Sizes are checked at every call: num_features, or 0 where an option switches
  /// the thing off. `as_vector` shows one as an Eigen vector.
  ///@{

  /// The scale (gamma), [num_features]; at first 1.
  Vector& weight() { return layer_.weight; }
  /// The scale, read only.
  const Vector& weight() const { return layer_.weight; }
  /// The shift (beta), [num_features]; at first 0.
  Vector& bias() { return layer_.bias; }
  /// The shift, read only.
  const Vector& bias() const { return layer_.bias; }
  /// The running mean of the batches seen in training, [num_features]; at first 0.
  Vector& running_mean() { return layer_.running_mean; }
  /// The running mean, read only.
  const Vector& running_mean() const { return layer_.running_mean; }
  /// The running variance of those batches, biased or not as options().running_variance(), [num_features]; at first 1.
  Vector& running_var() { return layer_.running_var; }
  /// The running variance, read only.
  const Vector& running_var() const { return layer_.running_var; }
  /// The gradient of the scale, [num_features]: the sum of all backward passes' since zero_grad().
  Vector& weight_grad() { return layer_.weight_grad; }
  /// The gradient of the scale, read only.
  const Vector& weight_grad() const { return layer_.weight_grad; }
  /// The gradient of the shift, [num_features]: the sum of all backward passes' since zero_grad().
  Vector& bias_grad() { return layer_.bias_grad; }
  /// The gradient of the shift, read only.
  const Vector& bias_grad() const { return layer_.bias_grad; }
  ///@}

  /// \name State from what people hold
  /// Each copies num_features values into the vector of its name, whose memory stays where it is, and returns the
  /// layer. The values may be an Eigen vector or array, a tensor of rank 1, an expression of these, a std::vector,
  /// std::array or span, `{1, 2, 3}`, or anything else that has begin() and end() or data() and size(); they may be
  /// computed from the vector itself, and are converted to Param. A layer whose options switch the vector off takes no
  /// values. Throws std::invalid_argument for another number of values, and then has changed nothing.
  ///
  ///     bn.set_weight(std::vector<float>(64, 0.5f)).set_bias(Eigen::VectorXd::Zero(64));
  ///@{

  /// Sets the scale (gamma).
  template <class Values = std::initializer_list<Param>>
  BatchNorm& set_weight(const Values& values) {
    return set_vector("weight", values, &Layer::weight, options().scale(), "scale");
  }
  /// Sets the shift (beta).
  template <class Values = std::initializer_list<Param>>
  BatchNorm& set_bias(const Values& values) {
    return set_vector("bias", values, &Layer::bias, options().shift(), "shift");
  }
  /// Sets the running mean. num_batches_tracked() stays as it is.
  template <class Values = std::initializer_list<Param>>
  BatchNorm& set_running_mean(const Values& values) {
    return set_vector("running_mean", values, &Layer::running_mean, options().track_running_stats(),
                      "track_running_stats");
  }
  /// Sets the running variance. num_batches_tracked() stays as it is.
  template <class Values = std::initializer_list<Param>>
  BatchNorm& set_running_var(const Values& values) {
    return set_vector("running_var", values, &Layer::running_var, options().track_running_stats(),
                      "track_running_stats");
  }
  ///@}

  /// How many batches the running statistics have seen. Batches that leave them as they are do not count: empty ones,
  /// and those of a single value per channel unless options().single_value() is SingleValue::allow.
  std::int64_t num_batches_tracked() const { return layer_.num_batches_tracked; }
  /// Sets how many batches the running statistics have seen, at least 0. Together with running_mean() and running_var()
  /// it restores them from a checkpoint: where options().momentum() is std::nullopt, the share of the next batch
  /// follows from it. A layer without running statistics has seen 0 batches, and takes no other number. Throws
  /// std::invalid_argument.
  BatchNorm& num_batches_tracked(std::int64_t batches) {
    check_batches(batches);
    layer_.num_batches_tracked = batches;
    return *this;
  }

  /// A copy of running_mean(), running_var() and num_batches_tracked().
  RunningStatistics running_stats() const { return {running_mean(), running_var(), num_batches_tracked()}; }
  /// Puts running statistics back, those of this layer or of another with as many channels, into the memory of
  /// running_mean() and running_var(). Throws std::invalid_argument for sizes that do not fit and for a count that
  /// num_batches_tracked(n) does not take, and then has changed nothing.
  template <class P = Param>
  BatchNorm& set_running_stats(const batchnorm::RunningStatistics<P>& statistics) {
    const bool tracked = options().track_running_stats();
    const auto mean = checked_values("running_mean", statistics.running_mean, tracked, "track_running_stats");
    const auto var = checked_values("running_var", statistics.running_var, tracked, "track_running_stats");
    detail::require(mean.size() == var.size(), "expected running_var of size ", mean.size(), ", got ", var.size());
    check_batches(statistics.num_batches_tracked);
    if (!tracked) return *this;
    change(static_cast<Index>(mean.size()), [&](Layer& layer) {
      put(mean, layer.running_mean);
      put(var, layer.running_var);
      layer.num_batches_tracked = statistics.num_batches_tracked;
    });
    return *this;
  }
  /// Makes the statistics of pooled data the running ones: their mean, and their variance as
  /// options().running_variance() has it. The moments may be of any accumulator. num_batches_tracked() stays as it is,
  /// unless it is 0: then it is 1, since the running statistics are no longer the initial ones; where
  /// options().momentum() is std::nullopt, say by num_batches_tracked(n) for how many batches the moments stand. Throws
  /// std::invalid_argument for another number of channels, for a layer without running statistics, and for moments of
  /// no value or, unless options().single_value() is SingleValue::allow, of one; and then has changed nothing.
  ///
  ///     batchnorm::Moments moments(64);
  ///     for (const auto& batch : batches) moments.add(batch);
  ///     bn.set_running_stats(moments);
  template <class A>
  BatchNorm& set_running_stats(const BasicMoments<A>& moments) {
    layer_.check_whole();
    layer_.check_moments(moments.count());
    detail::require(layer_.lazy() || moments.channels() == options().num_features(), "expected moments of ",
                    options().num_features(), " channels, got ", moments.channels());
    const auto mean = detail::copied_values<Param>("mean", moments.mean());
    const auto var = detail::copied_values<Param>("variance", moments.variance(options().running_variance()));
    change(moments.channels(), [&](Layer& layer) {
      put(mean, layer.running_mean);
      put(var, layer.running_var);
      if (layer.num_batches_tracked == 0) layer.num_batches_tracked = 1;
    });
    return *this;
  }

  /// The statistics of the last forward pass, whatever its mode, for a later `backward`.
  const SavedStatistics& saved_statistics() const { return layer_.saved; }

  /// Sets the gradients of the parameters to 0.
  BatchNorm& zero_grad() {
    fill(weight_grad(), 0);
    fill(bias_grad(), 0);
    return *this;
  }

  /// Sets the running mean to 0, the running variance to 1, and num_batches_tracked to 0.
  BatchNorm& reset_running_stats() {
    fill(running_mean(), 0);
    fill(running_var(), 1);
    layer_.num_batches_tracked = 0;
    return *this;
  }

  /// Sets the weight to 1, the bias to 0, and the running statistics as reset_running_stats() does.
  BatchNorm& reset_parameters() {
    fill(weight(), 1);
    fill(bias(), 0);
    return reset_running_stats();
  }

  /// Training mode, or inference with `train(false)`.
  BatchNorm& train(bool on = true) {
    layer_.training = on;
    return *this;
  }
  /// Inference mode: `forward` normalizes by the running statistics. It still writes to the layer, so threads that
  /// share one call `infer`.
  BatchNorm& eval() { return train(false); }
  /// Whether in training mode.
  bool is_training() const { return layer_.training; }

  /// \name Switches
  /// What train() and eval() set together, each by itself: which statistics normalize, and whether a forward moves the
  /// running ones. Explicit switches survive train() and eval(), until follow_mode() clears them.
  ///
  ///     bn.normalize_with(batchnorm::Statistics::running).update_running_stats(false);  // a frozen layer
  ///     bn.update_running_stats(false);                                                 // a forward done again
  ///@{

  /// Normalizes by the statistics given, in forward and in infer, whatever the mode. Where running statistics are
  /// needed and options().track_running_stats() is false, the calls throw std::logic_error.
  BatchNorm& normalize_with(Statistics::Named statistics) {
    layer_.normalize_with = Statistics(statistics);
    return *this;
  }
  /// The same for any statistics, Statistics::mixed(prior_count) among them.
  BatchNorm& normalize_with(const Statistics& statistics) {
    layer_.extended = extended_table<true>();
    layer_.normalize_with = statistics;
    return *this;
  }
  /// The statistics that were asked for, or std::nullopt where the mode decides.
  std::optional<Statistics> normalize_with() const { return layer_.normalize_with; }
  /// Whether forward moves the running statistics by those of its batch, whatever the mode. infer never does.
  BatchNorm& update_running_stats(bool on) {
    layer_.updates = on;
    return *this;
  }
  /// What was asked for, or std::nullopt where the mode decides: in training forward moves them.
  std::optional<bool> update_running_stats() const { return layer_.updates; }
  /// Lets the mode decide again.
  BatchNorm& follow_mode() {
    layer_.normalize_with.reset();
    layer_.updates.reset();
    return *this;
  }
  ///@}

  /// Turns batch renormalization on, as BatchNormOptions::renorm, or sets its limits, which are best widened while
  /// training goes on (arXiv 1702.03275, section 4.2: from 1 and 0 to 3 and 5). Throws std::invalid_argument.
  BatchNorm& renorm(double r_max, double d_max) {
    detail::require(options().track_running_stats(),
                    "expected track_running_stats(true) for batch renormalization, got false");
    layer_.options.set_renorm(r_max, d_max);
    layer_.extended = extended_table<true>();
    return *this;
  }
  /// The share of channels, of ghost batches' channels each, whose r or d the last renormalized forward clipped to its
  /// limits, in [0, 1]; 0 before there was one.
  double clipped_share() const { return layer_.clipped_share; }

  /// Whether `backward` makes sure that the x it is given is the one that went into the forward; off at first. It is a
  /// help while a program is being written: a backward that is handed another tensor, the output y in place of x most
  /// often, gives gradients that are wrong and look right.
  ///
  /// While it is on, `forward` keeps sums over each channel of x, and `backward` takes them of the x that came and
  /// throws std::logic_error, before it writes anything, where they differ. That is one more reading of x in each. The
  /// sums of the same values are the same on any device and at any address, so that no rightful call is refused, also
  /// of an x that holds NaN. Nothing is compared where there is nothing to compare with: where the forward was done
  /// while the check was off, or x was in the other layout (RowMajor or ColMajor).
  BatchNorm& check_backward(bool on) {
    layer_.check_backward = on;
    return *this;
  }
  /// Whether `backward` makes sure that its x is the forward's.
  bool check_backward() const { return layer_.check_backward; }

  /// Normalizes x by the present mode. Four call shapes:
  ///
  ///     y = forward(x)            forward(x, y)
  ///     y = forward(device, x)    forward(device, x, y)
  ///
  /// In training by the statistics of x, with which it updates the running ones; in inference by the running ones, or
  /// by those of x if none are tracked. A returned tensor has x's layout and index type, a returned matrix is of x's
  /// plain type. y, a tensor or map, or a matrix, map or block, of x's scalar, shape and layout, is never resized; it
  /// may be x itself, but share no element with it otherwise.
  ///
  /// An empty x leaves the running statistics and num_batches_tracked() as they are. Where a batch has one value per
  /// channel, options().single_value() decides. Throws std::invalid_argument for shapes and sizes that do not fit.
  ///
  /// In inference too it writes to the layer, what a `backward` needs: one thread at a time. Threads that share a layer
  /// call `infer`, and a `forward` of a const layer does not compile.
  template <class First, class... Rest>
  auto forward(const First& first, Rest&&... rest) {
    if constexpr (!detail::check_call<detail::Call::forward, Dims, First, Rest...>()) {
      return NoResult();
    } else if constexpr (detail::is_input<Dims, First>) {
      return run_forward(*this, Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      return run_forward(*this, first, std::forward<Rest>(rest)...);
    }
  }

  /// Does not compile, with a sentence that says what to call.
  template <class First, class... Rest>
  auto forward(const First& first, Rest&&... rest) const {
    static_assert(
        never<First>,
        "batchnorm: forward changes the layer, after eval() too, and this layer is const: call infer, which is "
        "inference whatever the mode and may be called by many threads at once");
    return const_cast<BatchNorm&>(*this).forward(first, std::forward<Rest>(rest)...);  // so that no other error follows
  }

  /// Inference whatever the mode, in the four call shapes of `forward`. Touches no state, allocates nothing where it
  /// writes into the caller's memory, and may be called from many threads at once, on devices too, as long as no one
  /// changes the layer meanwhile.
  template <class First, class... Rest>
  auto infer(const First& first, Rest&&... rest) const {
    if constexpr (!detail::check_call<detail::Call::forward, Dims, First, Rest...>()) {
      return NoResult();
    } else if constexpr (detail::is_input<Dims, First>) {
      return run_forward(*this, Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      return run_forward(*this, first, std::forward<Rest>(rest)...);
    }
  }

  /// What `infer` does as an object of its own, with the present parameters and running statistics, the epsilon, the
  /// channel axis and the activation: for a program that only runs the trained layer. `frozen<64>()` is one of 64
  /// channels at compile time. Throws std::logic_error for a layer without running statistics, and
  /// std::invalid_argument for another number of channels than that at compile time.
  template <int Channels = Eigen::Dynamic>
  FrozenBatchNorm<T, Channels> frozen() const {
    layer_.check_whole();
    layer_.check_has_channels();
    if (!options().track_running_stats()) {
      detail::fail<std::logic_error>(
          "expected a layer with running statistics to freeze, got one of track_running_stats(false)");
    }
    layer_.check_parameters();
    FrozenBatchNorm<T, Channels> result(weight(), bias(), running_mean(), running_var(), options().epsilon(),
                                        options().channel_axis());
    result.set_activation(options().activation());
    return result;
  }

  /// \name To files, to optimizers, and to other types
  /// These are defined in batchnorm/layer_state.hpp, which batchnorm.hpp includes.
  ///@{

  /// A copy of the parameters and running statistics under PyTorch's names, or under others, each behind the prefix:
  /// what this layer has of weight, bias, running_mean, running_var, [num_features] and in Param, and
  /// num_batches_tracked, an int64 without axes. Settings, such as epsilon and momentum, are not among them.
  ///
  ///     batchnorm::save_safetensors("net.safetensors", bn.state_dict("net.bn1."));
  template <class Names = StateNames>
  StateDict state_dict(const std::string& prefix = std::string(), const Names& names = Names()) const;
  /// Takes parameters and running statistics from those arrays of the dict whose names begin with the prefix, of which
  /// there have to be all that state_dict(prefix) has and no others. Any floating-point type will do: numbers are
  /// rounded to Param, to the nearest with ties to even, and are infinite beyond its range. Throws
  /// std::invalid_argument with the names that are missing or unexpected, or with the shapes or types that differ, and
  /// then has changed nothing.
  template <class Names = StateNames>
  BatchNorm& load_state_dict(const StateDict& dict, const std::string& prefix = std::string(),
                             const Names& names = Names());

  /// The parameters that this layer has, for an optimizer: the name behind the prefix, and value and gradient as maps
  /// onto the layer's own memory. They are good as long as the layer is there and its vectors are not resized.
  ///
  ///     for (auto& parameter : bn.parameters()) parameter.value -= 0.1f * parameter.gradient;
  std::vector<Parameter<Param>> parameters(const std::string& prefix = std::string());

  /// A layer for tensors of another scalar, or another rank, with the same settings, mode, parameters, gradients and
  /// running statistics. It has seen no forward. Throws std::invalid_argument where tensors of the other rank do not
  /// have the channel axis.
  ///
  ///     auto reference = bn.cast<double>();
  ///     batchnorm::BatchNorm<double, 4> images = bn.cast<double, 4>();
  template <class U, int OtherDims = Dims>
  BatchNorm<U, OtherDims> cast() const;
  ///@}

  /// \name Folding
  /// Inference is y = scale x + shift for each channel, which the linear map or convolution before or after the layer
  /// can do for it. A weight is a matrix, array, block or map of Eigen's, or a tensor or TensorMap of any rank, of any
  /// real scalar; a bias is a vector, or a tensor of rank 1. They are computed in Accumulator and rounded once. Without
  /// a bias the one that the folded map needs is returned. Axes are a number or WeightAxes, which know of groups. All
  /// sizes are checked before anything is written: std::invalid_argument. Throws std::logic_error for a layer without
  /// running statistics. These are defined in batchnorm/folding.hpp, which batchnorm.hpp includes.
  ///
  ///     bn.fold_into(W, b);                    // a matrix [out, in]: infer(x W^T + b) is then x W^T + b
  ///     auto bias = bn.fold_into(kernel, -1);  // a convolution without a bias, whose outputs lie on the last axis
  ///@{

  /// Folds into the map before the layer, whose output channels lie on axis 0 or on that given. An activation of the
  /// layer is not folded: it has to follow the map.
  template <class Weight, class Bias, class Axes = int, detail::if_bias<Bias> = 0>
  void fold_into(Weight&& weight, Bias&& bias, Axes out_axis = 0) const;
  /// \copydoc fold_into
  template <class Weight, class Axes = int, detail::if_axes<Axes> = 0>
  [[nodiscard]] auto fold_into(Weight&& weight, Axes out_axis = 0) const;

  /// Folds into the map after the layer, whose input channels lie on axis 1 or on that given. That map may not be a
  /// convolution which pads with zeros: they would be zeros before the layer instead of after it, and the border of the
  /// result would differ. Throws std::invalid_argument for a layer with an activation.
  template <class Weight, class Bias, class Axes = int, detail::if_bias<Bias> = 0>
  void fold_into_next(Weight&& weight, Bias&& bias, Axes in_axis = 1) const;
  /// \copydoc fold_into_next
  template <class Weight, class Axes = int, detail::if_axes<Axes> = 0>
  [[nodiscard]] auto fold_into_next(Weight&& weight, Axes in_axis = 1) const;
  ///@}

  /// The gradient of a loss with respect to x, given that with respect to y, and adds those of the parameters into
  /// weight_grad() and bias_grad(). Four call shapes, each of which may end with saved statistics:
  ///
  ///     dx = backward(x, dy)            backward(x, dy, dx)
  ///     dx = backward(device, x, dy)    backward(device, x, dy, dx)
  ///
  /// x is that of the forward: the layer keeps no copy of it, only the statistics that the forward used. It goes back
  /// through the last forward, or that of the saved statistics, whatever the mode is now, and with the present weight.
  /// Running statistics were constants to the forward that used them; those of a batch pass the gradient on. dx is as
  /// the y of forward; it may be dy or x itself, but share no element with them otherwise.
  ///
  /// After a forward in place the memory of x holds y: keep a copy of x for backward. check_backward() tells whether x
  /// is the forward's; without it, another tensor of its shape gives wrong gradients.
  ///
  /// Throws std::logic_error without a forward, and where check_backward() is on for another x than the forward's;
  /// std::invalid_argument for shapes and sizes that do not fit.
  template <class First, class... Rest>
  auto backward(const First& first, Rest&&... rest) {
    if constexpr (!detail::check_call<detail::Call::backward, Dims, First, Rest...>()) {
      return NoResult();
    } else if constexpr (detail::is_input<Dims, First>) {
      return backward_on(Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      return backward_on(first, std::forward<Rest>(rest)...);
    }
  }

  /// The gradient with respect to x after a forward in place, `forward(y, y)`, of which only the output y is left
  /// (arXiv 1712.02616): x - mean is recovered from it as (v - bias) / weight * std, where v is y less its activation.
  /// In the call shapes of `backward`, with y for x: `dx = backward_from_output(y, dy)`, `backward_from_output(y, dy,
  /// dx)`, with a device as first argument where there is one. dx may be dy or y itself.
  ///
  /// The layer must have been made with options.activation(...), Activation::none or a leaky relu, so that it keeps the
  /// weight and bias of the forward. What y's last digit is worth in x - mean shows in the gradients: |y| / |weight|
  /// times the scalar's epsilon, in standard deviations, and |bias| / |weight| times it.
  ///
  /// Throws std::logic_error without such a forward, for relu, and for a forward with a residual; std::invalid_argument
  /// for shapes that do not fit and, naming the channel, where the forward's weight was 0 or not finite, or its bias
  /// more than 4096 times as large. Nothing is written then.
  template <class First, class... Rest>
  auto backward_from_output(const First& first, Rest&&... rest) {
    if constexpr (!detail::check_call<detail::Call::backward, Dims, First, Rest...>()) {
      return NoResult();
    } else if constexpr (detail::is_input<Dims, First>) {
      return backward_from_output_on(Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      return backward_from_output_on(first, std::forward<Rest>(rest)...);
    }
  }

  /// Does not compile, with a sentence that says why.
  template <class First, class... Rest>
  auto backward(const First& first, Rest&&... rest) const {
    static_assert(never<First>,
                  "batchnorm: backward adds to the gradients of the layer, and this layer is const: infer is the one "
                  "call for a const layer");
    return const_cast<BatchNorm&>(*this).backward(first, std::forward<Rest>(rest)...);
  }

 private:
  using Layer = detail::Layer<T, Dims>;
  friend struct detail::LayerAccess;
  template <class OtherT, int OtherDims, class Communicator>
  friend class SyncBatchNorm;
  template <class OtherT, int OtherDims>
  friend class BatchNorm;

  BatchNorm(const BatchNormOptions& options, const detail::FusedKernels<T>* fused,
            const detail::ExtendedTable<T, Dims>* extended)
      : layer_(options, fused, extended) {}

  // For a static_assert that fails where its function is called.
  template <class>
  static constexpr bool never = false;

  // What a call of which a check has said what is wrong returns, so that no other error follows.
  using NoResult = Eigen::Tensor<T, Dims, Eigen::RowMajor>;

  // --- State.

  void check_batches(std::int64_t batches) const {
    detail::require(batches >= 0, "expected num_batches_tracked of at least 0, got ", batches);
    detail::require(batches == 0 || options().track_running_stats(),
                    "expected num_batches_tracked of 0 for a layer without running statistics, got ", batches);
  }

  // The values for a vector that the layer has if `used`, which is what the option of that name says.
  template <class Values>
  std::vector<Param> checked_values(const char* name, const Values& values, bool used, const char* option) const {
    if (!layer_.whole) detail::fail<std::logic_error>("expected a layer, got one that was moved from");
    auto result = detail::copied_values<Param>(name, values);
    detail::require(used || result.empty(), "expected no ", name, " for a layer of ", option, "(false), got ",
                    result.size(), " values");
    detail::require(!used || layer_.lazy() || static_cast<Index>(result.size()) == options().num_features(),
                    "expected ", name, " of size ", options().num_features(), ", got ", result.size());
    detail::require(!used || !result.empty(), "expected ", name, " of size 1 or more, got none");
    return result;
  }

  // Calls apply(layer), which cannot throw, with a layer of so many channels: one that has none yet gets them.
  template <class Apply>
  void change(Index channels, const Apply& apply) {
    typename Layer::FirstCall first(layer_);
    if (layer_.lazy()) first.resize(channels);
    apply(layer_);
    first.keep();
  }

  // In place, since the user may keep pointers to the vector's memory, unless the user has given it another size.
  static void put(const std::vector<Param>& values, Vector& vector) {
    const auto size = static_cast<Index>(values.size());
    if (vector.size() != size) vector.resize(size);
    for (Index c = 0; c < size; ++c) vector(c) = values[static_cast<std::size_t>(c)];
  }

  template <class Values>
  BatchNorm& set_vector(const char* name, const Values& values, Vector Layer::*vector, bool used, const char* option) {
    if constexpr (detail::check_values_type<Param, Values>()) {
      const auto checked = checked_values(name, values, used, option);
      if (used) change(static_cast<Index>(checked.size()), [&](Layer& layer) { put(checked, layer.*vector); });
    }
    return *this;
  }

  // --- Calls. An expression becomes a tensor or matrix, and that becomes its memory. Where a type is wrong, a check
  // has said so.

  template <class X>
  static constexpr bool check_input() {
    if constexpr (detail::is_real<T>) {
      return detail::check_input_type<T, Dims, X>();
    } else {
      return false;
    }
  }

  template <class X>
  detail::TensorView<const T, Dims> read(const X& x) const {
    return detail::view_tensor<const T>(x, layer_.axis);
  }
  template <class Y>
  detail::TensorView<T, Dims> written(const char* name, Y& y) const {
    return detail::view_output<T>(name, y, layer_.axis);
  }

  // What only some layers and calls have compiled.
  template <bool Fused>
  static constexpr const detail::FusedKernels<T>* fused_kernels() {
    if constexpr (Fused) {
      return &detail::fused_kernels<T>;
    } else {
      return nullptr;
    }
  }
  template <bool Extended>
  static constexpr const detail::ExtendedTable<T, Dims>* extended_table() {
    if constexpr (Extended) {
      return &detail::ExtendedLayer<T, Dims>::table;
    } else {
      return nullptr;
    }
  }

  // Each of these calls run(), when it has set what a tag adds to `extras`; the tag's value lives as long.

  template <class X, class Device, class Extras, class Run, class... Tags>
  void with_residual(const Device& device, Extras& extras, const Run& run, const Tags&... tags) const {
    if constexpr (detail::has_tag<detail::ResidualTag, Tags...>) {
      const auto& given = detail::tag_of<detail::ResidualTag>(tags...).value;
      using R = detail::plain<decltype(given)>;
      if constexpr (check_input<R>() && detail::check_companion_type<X, R>()) {
        const auto& residual = detail::evaluated(device, given);
        extras.kernels = &detail::fused_kernels<T>;
        extras.has_residual = true;
        extras.residual = read(residual);
        run();
      }
    } else {
      static_cast<void>(device), (static_cast<void>(tags), ...);
      extras.kernels = layer_.fused;
      run();
    }
  }

  template <class X, class Device, class Extras, class Run, class... Tags>
  void with_output(const Device& device, Extras& extras, const Run& run, const Tags&... tags) const {
    if constexpr (detail::has_tag<detail::OutputTag, Tags...>) {
      const auto& given = detail::tag_of<detail::OutputTag>(tags...).value;
      using Y = detail::plain<decltype(given)>;
      if constexpr (check_input<Y>() && detail::check_companion_type<X, Y>()) {
        const auto& y = detail::evaluated(device, given);
        extras.has_output = true;
        extras.output = read(y);
        run();
      }
    } else {
      static_cast<void>(device), (static_cast<void>(tags), ...);
      run();
    }
  }

  // `memory` is for the weights of all positions: the layer's, or of the call where that may not change it.
  template <class X, class Extras, class Run, class... Tags>
  void with_weights(const detail::Shape<Dims>& shape, std::vector<T>& memory, Extras& extras, const Run& run,
                    const Tags&... tags) const {
    constexpr bool masked = detail::has_tag<detail::MaskTag, Tags...>;
    if constexpr (masked || detail::has_tag<detail::SampleWeightTag, Tags...>) {
      using Tag = std::conditional_t<masked, detail::MaskTag, detail::SampleWeightTag>;
      const auto& given = detail::tag_of<Tag>(tags...).value;
      if constexpr (detail::check_positions_type<Dims, layout<X>, detail::plain<decltype(given)>>()) {
        constexpr auto kind = masked ? detail::WeightKind::mask : detail::WeightKind::weights;
        detail::set_position_weights(kind, given, shape, layout<X>, layer_.axis, memory);
        const detail::PositionWeights<T> weights{kind, memory.data()};
        extras.extended = extended_table<true>();
        extras.weights = &weights;
        run();
        extras.weights = nullptr;
      }
    } else {
      static_cast<void>(shape), static_cast<void>(memory), static_cast<void>(extras), (static_cast<void>(tags), ...);
      run();
    }
  }

  template <class Device, class Extras, class Run, class... Tags>
  void with_affine(const Device& device, const detail::Shape<Dims>& shape, Extras& extras, const Run& run,
                   const Tags&... tags) const {
    if constexpr (detail::has_tag<detail::AffineTag, Tags...>) {
      const auto& tag = detail::tag_of<detail::AffineTag>(tags...);
      using W = detail::plain<decltype(tag.weight)>;
      using B = detail::plain<decltype(tag.bias)>;
      if constexpr (detail::check_parameter_type<Param, W>() && detail::check_parameter_type<Param, B>()) {
        const auto& weight = detail::evaluated(device, tag.weight);
        const auto& bias = detail::evaluated(device, tag.bias);
        const detail::Index samples = shape[layer_.axis == 0 ? Dims - 1 : 0];
        const detail::Index channels = shape[static_cast<std::size_t>(layer_.axis)];
        const detail::Parameters<const Param> parameters{
            detail::parameter_of<const Param>("the weight", weight, samples, channels),
            detail::parameter_of<const Param>("the bias", bias, samples, channels)};
        extras.extended = extended_table<true>();
        extras.parameters = &parameters;
        if constexpr (detail::has_tag<detail::AffineGradTag, Tags...>) {
          const auto& grads = detail::tag_of<detail::AffineGradTag>(tags...);
          using Grads = detail::plain<decltype(grads)>;
          if constexpr (detail::check_output_type<W, typename Grads::Weight>() &&
                        detail::check_output_type<B, typename Grads::Bias>()) {
            const detail::Parameters<Param> written{
                detail::parameter_of<Param>("the weight's gradient", grads.weight, samples, channels),
                detail::parameter_of<Param>("the bias's gradient", grads.bias, samples, channels)};
            extras.parameter_grads = &written;
            run();
            extras.parameter_grads = nullptr;
          }
        } else {
          run();
        }
        extras.parameters = nullptr;
      }
    } else {
      static_cast<void>(device), static_cast<void>(shape), static_cast<void>(extras), (static_cast<void>(tags), ...);
      run();
    }
  }

  // forward for a layer, infer for a const one.
  template <class Device, class... Arguments>
  static void pass(BatchNorm& self, const Device& device, const Arguments&... arguments) {
    self.layer_.forward(device, arguments...);
  }
  template <class Device, class... Arguments>
  static void pass(const BatchNorm& self, const Device& device, const Arguments&... arguments) {
    self.layer_.infer(device, arguments...);
  }

  template <class Self, class Device, class X, class... Rest>
  static auto run_forward(Self& self, const Device& device, const X& x, Rest&&... rest) {
    if constexpr (!check_input<X>()) {
      if constexpr (detail::positional<Rest...>() == 0) return NoResult();
    } else if constexpr (detail::positional<Rest...>() == 0) {
      const auto& input = detail::evaluated(device, x);
      auto y = detail::result_like(input);
      run_into<X>(self, device, input, y, rest...);
      return y;
    } else {
      write_into<X>(self, device, x, std::forward<Rest>(rest)...);
    }
  }

  template <class X, class Self, class Device, class Y, class... Tags>
  static void write_into(Self& self, const Device& device, const X& x, Y&& y, const Tags&... tags) {
    if constexpr (detail::check_output_type<X, Y>())
      run_into<X>(self, device, detail::evaluated(device, x), y, tags...);
  }

  template <class X, class Self, class Device, class Input, class Y, class... Tags>
  static void run_into(Self& self, const Device& device, const Input& input, Y& y, const Tags&... tags) {
    detail::ForwardExtras<T, Dims> extras;
    const auto run = [&] {
      pass(self, device, layout<X>, self.read(input), self.written("y", y), std::as_const(extras));
    };
    if constexpr (sizeof...(Tags) == 0) {
      extras.kernels = self.layer_.fused;
      run();
    } else {
      const auto shape = self.read(input).shape;
      std::vector<T> memory;
      self.template with_residual<X>(
          device, extras,
          [&] {
            self.template with_weights<X>(
                shape, position_memory(self, memory), extras,
                [&] { self.with_affine(device, shape, extras, run, tags...); }, tags...);
          },
          tags...);
    }
  }

  static std::vector<T>& position_memory(BatchNorm& self, std::vector<T>&) { return self.layer_.position_weights; }
  static std::vector<T>& position_memory(const BatchNorm&, std::vector<T>& memory) { return memory; }

  template <class Device, class X, class Dy, class... Rest>
  auto backward_on(const Device& device, const X& x, const Dy& dy, Rest&&... rest) {
    if constexpr (check_input<X>() && check_input<Dy>() && detail::check_gradient_type<X, Dy>()) {
      return backward_with(device, detail::evaluated(device, x), detail::evaluated(device, dy),
                           std::forward<Rest>(rest)...);
    } else {
      return NoResult();
    }
  }

  // After x and dy may come dx, saved statistics, and tags.
  template <class Device, class X, class Dy, class... Rest>
  auto backward_with(const Device& device, const X& x, const Dy& dy, Rest&&... rest) {
    if constexpr (detail::positional<Rest...>() == 0) {
      return backward_to_result(device, x, dy, layer_.saved, rest...);
    } else {
      return backward_to(device, x, dy, std::forward<Rest>(rest)...);
    }
  }

  template <class Device, class X, class Dy, class Last, class... Rest>
  auto backward_to(const Device& device, const X& x, const Dy& dy, Last&& last, Rest&&... rest) {
    if constexpr (std::is_same_v<detail::plain<Last>, SavedStatistics>) {
      return backward_to_result(device, x, dy, last, rest...);
    } else if constexpr (!detail::check_output_type<X, Last>()) {
      // The check has said what is wrong.
    } else if constexpr (detail::positional<Rest...>() == 0) {
      backward_into(device, x, dy, last, layer_.saved, rest...);
    } else {
      backward_into(device, x, dy, last, rest...);
    }
  }

  // dx, and the residual's gradient where there is an output and no place is given for it.
  template <class Device, class X, class Dy, class... Tags>
  auto backward_to_result(const Device& device, const X& x, const Dy& dy, const SavedStatistics& saved,
                          const Tags&... tags) {
    auto dx = detail::result_like(x);
    if constexpr (detail::has_tag<detail::OutputTag, Tags...> && !detail::has_tag<detail::ResidualGradTag, Tags...>) {
      auto dresidual = detail::result_like(x);
      backward_into(device, x, dy, dx, saved, tags..., residual_grad(dresidual));
      return std::make_pair(std::move(dx), std::move(dresidual));
    } else {
      backward_into(device, x, dy, dx, saved, tags...);
      return dx;
    }
  }

  template <class Device, class X, class Dy, class Dx, class... Tags>
  void backward_into(const Device& device, const X& x, const Dy& dy, Dx& dx, const SavedStatistics& saved,
                     const Tags&... tags) {
    detail::BackwardExtras<T, Dims> extras;
    if constexpr (detail::has_tag<detail::ResidualGradTag, Tags...>) {
      const auto& tag = detail::tag_of<detail::ResidualGradTag>(tags...);
      if constexpr (detail::check_output_type<X, typename detail::plain<decltype(tag)>::Type>()) {
        extras.has_residual_grad = true;
        extras.residual_grad = written("the residual's gradient", tag.value);
      }
    }
    const auto run = [&] { layer_.backward(device, layout<X>, read(x), read(dy), written("dx", dx), saved, extras); };
    if constexpr (sizeof...(Tags) == 0) {
      run();
    } else {
      const auto shape = read(x).shape;
      with_output<X>(
          device, extras,
          [&] {
            with_weights<X>(
                shape, layer_.position_weights, extras, [&] { with_affine(device, shape, extras, run, tags...); },
                tags...);
          },
          tags...);
    }
  }

  template <class Device, class Y, class Dy, class... Dx>
  auto backward_from_output_on(const Device& device, const Y& y, const Dy& dy, Dx&&... dx) {
    if constexpr (check_input<Y>() && check_input<Dy>() && detail::check_gradient_type<Y, Dy>()) {
      const auto& output = detail::evaluated(device, y);
      const auto& gradient = detail::evaluated(device, dy);
      if constexpr (sizeof...(Dx) == 0) {
        auto result = detail::result_like(output);
        layer_.backward_from_output(device, layout<Y>, read(output), read(gradient), written("dx", result),
                                    layer_.saved);
        return result;
      } else if constexpr ((detail::check_output_type<Y, Dx>() && ...)) {
        layer_.backward_from_output(device, layout<Y>, read(output), read(gradient), written("dx", dx)...,
                                    layer_.saved);
      }
    } else {
      return NoResult();
    }
  }

  template <class X>
  static constexpr int layout = static_cast<int>(detail::layout_of<X>);

  static void fill(Vector& vector, double value) { Layer::fill(vector, value); }

  Layer layer_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_BATCH_NORM_HPP
