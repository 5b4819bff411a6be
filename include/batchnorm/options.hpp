// The settings of a batch normalization layer, each checked when it is set.

#ifndef BATCHNORM_OPTIONS_HPP
#define BATCHNORM_OPTIONS_HPP

#include <Eigen/Core>  // Eigen::Index

#include <cmath>
#include <optional>

#include "batchnorm/activation.hpp"
#include "batchnorm/detail/interface/error.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// Which variance of a batch of n values per channel enters the running variance. The batch itself is always
/// normalized by the biased one (Ioffe and Szegedy, arXiv 1502.03167, algorithms 1 and 2).
enum class Variance {
  unbiased,  ///< M2 / (n - 1), as PyTorch and the paper
  biased,    ///< M2 / n, as Keras and ONNX
};

/// What a training pass does when a channel has exactly one value, whose variance says nothing.
enum class SingleValue {
  error,        ///< throw std::invalid_argument, as PyTorch
  skip_update,  ///< y = bias; running statistics and num_batches_tracked stay as they are
  use_running,  ///< normalize with the running statistics, which stay as they are and are constants in backward
  allow,        ///< variance 0, and the running statistics are updated with it, as Keras
};

template <bool Fused, bool Grouped>
class ExtendedBatchNormOptions;
/// Options with an activation.
using FusedBatchNormOptions = ExtendedBatchNormOptions<true, false>;

namespace detail {
template <class T, int Dims>
struct Layer;
}  // namespace detail

/// The settings of a BatchNorm. Setters check their argument, throw std::invalid_argument, and return the options, so
/// that calls chain; each but decay() has a getter of the same name.
///
///     auto options = batchnorm::BatchNormOptions(64).epsilon(1e-3).decay(0.99).channel_axis(-1);
class BatchNormOptions {
 public:
  /// Eigen's signed type of sizes.
  using Index = Eigen::Index;

  /// `num_features`: the number of channels, at least 1. Implicit, so that `BatchNorm<float, 4> bn(64)` works.
  BatchNormOptions(Index num_features) : num_features_(num_features) {  // NOLINT(google-explicit-constructor)
    detail::require(num_features >= 1, "expected num_features of at least 1, got ", num_features);
  }

  /// The settings of a layer that takes its number of channels from its first forward, or whatever else tells it: see
  /// BatchNorm::BatchNorm(). num_features() is 0 until then.
  ///
  ///     batchnorm::BatchNorm<float, 4> bn(batchnorm::BatchNormOptions().epsilon(1e-3).channel_axis(-1));
  BatchNormOptions() = default;

  /// PyTorch's conventions (torch.nn.BatchNorm*d), which are also the defaults here: epsilon 1e-5, momentum 0.1,
  /// unbiased running variance, channels on axis 1, an error for a single value per channel.
  static BatchNormOptions pytorch(Index num_features) { return BatchNormOptions(num_features); }
  /// The same for a layer that takes its number of channels from its first forward.
  static BatchNormOptions pytorch() { return {}; }

  /// Keras' conventions (keras.layers.BatchNormalization): epsilon 1e-3, decay 0.99 (which Keras calls momentum),
  /// biased running variance, channels last, a single value per channel allowed.
  static BatchNormOptions keras(Index num_features) { return BatchNormOptions(num_features).as_keras(); }
  /// The same for a layer that takes its number of channels from its first forward.
  static BatchNormOptions keras() { return BatchNormOptions().as_keras(); }

  /// ONNX's conventions (operator BatchNormalization, opset 15): epsilon 1e-5, decay 0.9 (which ONNX calls momentum),
  /// biased running variance, channels on axis 1, a single value per channel allowed.
  static BatchNormOptions onnx(Index num_features) { return BatchNormOptions(num_features).as_onnx(); }
  /// The same for a layer that takes its number of channels from its first forward.
  static BatchNormOptions onnx() { return BatchNormOptions().as_onnx(); }

  /// Added to the variance before its square root. Finite and at least 0; default 1e-5. With 0, a constant channel
  /// normalizes to its bias.
  BatchNormOptions& epsilon(double value) {
    detail::require(std::isfinite(value) && value >= 0, "expected a finite epsilon of at least 0, got ", value);
    epsilon_ = value;
    return *this;
  }
  /// What is added to the variance before its square root.
  double epsilon() const { return epsilon_; }

  /// The share m of the batch in the running statistics: running = (1 - m) running + m batch. In [0, 1]; default 0.1.
  /// std::nullopt keeps the cumulative average of all batches since the last reset.
  BatchNormOptions& momentum(std::optional<double> value) {
    detail::require(!value || (*value >= 0 && *value <= 1), "expected a momentum in [0, 1], got ", value.value_or(0));
    momentum_ = value;
    return *this;
  }
  /// The share of the batch in the running statistics, or std::nullopt for the cumulative average.
  std::optional<double> momentum() const { return momentum_; }

  /// The same knob the other way round, as in the paper and in Keras: momentum = 1 - decay. In [0, 1].
  BatchNormOptions& decay(double value) {
    detail::require(value >= 0 && value <= 1, "expected a decay in [0, 1], got ", value);
    return momentum(1 - value);
  }

  /// Whether there is a learnable scale, weight() (gamma in the paper). Default true.
  BatchNormOptions& scale(bool value) {
    scale_ = value;
    return *this;
  }
  /// Whether there is a learnable scale.
  bool scale() const { return scale_; }

  /// Whether there is a learnable shift, bias() (beta in the paper). Default true.
  BatchNormOptions& shift(bool value) {
    shift_ = value;
    return *this;
  }
  /// Whether there is a learnable shift.
  bool shift() const { return shift_; }

  /// Sets scale and shift together.
  BatchNormOptions& affine(bool value) { return scale(value).shift(value); }
  /// Whether there are both a learnable scale and a learnable shift.
  bool affine() const { return scale_ && shift_; }

  /// Whether running statistics are kept and used for inference. Default true; if false, batch statistics are used in
  /// training and inference alike.
  BatchNormOptions& track_running_stats(bool value) {
    track_running_stats_ = value;
    return *this;
  }
  /// Whether running statistics are kept and used for inference.
  bool track_running_stats() const { return track_running_stats_; }

  /// Which variance enters running_var(). Default Variance::unbiased.
  BatchNormOptions& running_variance(Variance value) {
    running_variance_ = value;
    return *this;
  }
  /// Which variance enters running_var().
  Variance running_variance() const { return running_variance_; }

  /// The axis of the channels; a negative one counts from the back, -1 being channels-last. Default 1. Whether a
  /// tensor has such an axis is checked by the layer, which knows the rank.
  BatchNormOptions& channel_axis(int value) {
    channel_axis_ = value;
    return *this;
  }
  /// The axis of the channels as it was given, negative where it counts from the back.
  int channel_axis() const { return channel_axis_; }

  /// What training on one value per channel does. Default SingleValue::error.
  BatchNormOptions& single_value(SingleValue value) {
    single_value_ = value;
    return *this;
  }
  /// What training on one value per channel does.
  SingleValue single_value() const { return single_value_; }

  /// The same settings, and an activation that is computed in the same pass: y = activation(bn(x)), and with a residual
  /// y = activation(bn(x) + r). The result is of a type of its own, which a layer is to be made of: it brings the
  /// kernels for it, which nothing else compiles.
  ///
  ///     batchnorm::BatchNorm<float, 4> bn(batchnorm::BatchNormOptions(64).activation(batchnorm::Activation::relu));
  [[nodiscard]] FusedBatchNormOptions activation(Activation value) const;
  /// What follows the normalization. Default Activation::none.
  Activation activation() const { return activation_; }

  /// The same settings, and ghost batches (Hoffer, Hubara and Soudry 2017, arXiv 1705.08741): each `samples` samples of
  /// a batch, one after another along the samples' axis, are normalized by statistics of their own, the last ones by
  /// those of what is left. The running mean takes that of the whole batch, and the running variance the mean of the
  /// groups' variances, each weighted by its number of values. At least 1. Samples lie along axis 0, or along the last
  /// axis where the channels are on axis 0. As activation(value), of a type of its own.
  [[nodiscard]] ExtendedBatchNormOptions<false, true> virtual_batch_size(Index samples) const;
  /// How many samples share statistics in training; 0 where all of a batch do, which is the default.
  Index virtual_batch_size() const { return virtual_batch_size_; }

  /// The same settings, and batch renormalization (Ioffe 2017, arXiv 1702.03275): in training
  ///
  ///     y = (x-hat * r + d) * weight + bias,  r = std / running_std within [1 / r_max, r_max],
  ///                                           d = (mean - running_mean) / running_std within [-d_max, d_max],
  ///
  /// so that training sees what inference will do; in backward r and d are constants. r_max is at least 1 and d_max at
  /// least 0, both finite; 1 and 0 make it plain batch normalization. As activation(value), of a type of its own.
  [[nodiscard]] ExtendedBatchNormOptions<false, true> renorm(double r_max, double d_max) const;
  /// Whether batch renormalization is on. Default false.
  bool renorm() const { return renorm_; }
  /// The largest r of batch renormalization, 1 where it is off.
  double renorm_r_max() const { return r_max_; }
  /// The largest d of batch renormalization, 0 where it is off.
  double renorm_d_max() const { return d_max_; }

  /// The number of channels; 0 where the layer has yet to take it from its first forward.
  Index num_features() const { return num_features_; }

 protected:
  /// \name Set by those setters alone that return ExtendedBatchNormOptions
  ///@{
  void set_activation(Activation value) { activation_ = value; }
  void set_virtual_batch_size(Index samples) {
    detail::require(samples >= 1, "expected a virtual_batch_size of at least 1, got ", samples);
    virtual_batch_size_ = samples;
  }
  void set_renorm(double r_max, double d_max) {
    detail::require(std::isfinite(r_max) && r_max >= 1, "expected a finite r_max of at least 1, got ", r_max);
    detail::require(std::isfinite(d_max) && d_max >= 0, "expected a finite d_max of at least 0, got ", d_max);
    renorm_ = true;
    r_max_ = r_max;
    d_max_ = d_max;
  }
  ///@}

 private:
  template <class T, int Dims>
  friend class BatchNorm;
  template <class T, int Dims>
  friend struct detail::Layer;  // which sets the number of channels when it learns it

  BatchNormOptions& as_keras() {
    return epsilon(1e-3)
        .decay(0.99)
        .running_variance(Variance::biased)
        .channel_axis(-1)
        .single_value(SingleValue::allow);
  }
  BatchNormOptions& as_onnx() { return decay(0.9).running_variance(Variance::biased).single_value(SingleValue::allow); }

  Activation activation_{};
  Index virtual_batch_size_ = 0;
  bool renorm_ = false;
  double r_max_ = 1, d_max_ = 0;
  Index num_features_ = 0;
  double epsilon_ = 1e-5;
  std::optional<double> momentum_ = 0.1;
  bool scale_ = true;
  bool shift_ = true;
  bool track_running_stats_ = true;
  Variance running_variance_ = Variance::unbiased;
  int channel_axis_ = 1;
  SingleValue single_value_ = SingleValue::error;
};

/// Options with an activation (Fused) or with ghost batches or batch renormalization (Grouped), as the setters of those
/// return them: the same setters, which keep what there is. A layer made of them has the kernels that these need, which
/// nothing else compiles; so they are kept as `auto`.
template <bool Fused, bool Grouped>
class ExtendedBatchNormOptions : public BatchNormOptions {
 public:
  using BatchNormOptions::activation;
  using BatchNormOptions::affine;
  using BatchNormOptions::channel_axis;
  using BatchNormOptions::epsilon;
  using BatchNormOptions::momentum;
  using BatchNormOptions::renorm;
  using BatchNormOptions::running_variance;
  using BatchNormOptions::scale;
  using BatchNormOptions::shift;
  using BatchNormOptions::single_value;
  using BatchNormOptions::track_running_stats;
  using BatchNormOptions::virtual_batch_size;

  /// As BatchNormOptions::epsilon.
  ExtendedBatchNormOptions& epsilon(double value) {
    BatchNormOptions::epsilon(value);
    return *this;
  }
  /// As BatchNormOptions::momentum.
  ExtendedBatchNormOptions& momentum(std::optional<double> value) {
    BatchNormOptions::momentum(value);
    return *this;
  }
  /// As BatchNormOptions::decay.
  ExtendedBatchNormOptions& decay(double value) {
    BatchNormOptions::decay(value);
    return *this;
  }
  /// As BatchNormOptions::scale.
  ExtendedBatchNormOptions& scale(bool value) {
    BatchNormOptions::scale(value);
    return *this;
  }
  /// As BatchNormOptions::shift.
  ExtendedBatchNormOptions& shift(bool value) {
    BatchNormOptions::shift(value);
    return *this;
  }
  /// As BatchNormOptions::affine.
  ExtendedBatchNormOptions& affine(bool value) {
    BatchNormOptions::affine(value);
    return *this;
  }
  /// As BatchNormOptions::track_running_stats.
  ExtendedBatchNormOptions& track_running_stats(bool value) {
    BatchNormOptions::track_running_stats(value);
    return *this;
  }
  /// As BatchNormOptions::running_variance.
  ExtendedBatchNormOptions& running_variance(Variance value) {
    BatchNormOptions::running_variance(value);
    return *this;
  }
  /// As BatchNormOptions::channel_axis.
  ExtendedBatchNormOptions& channel_axis(int value) {
    BatchNormOptions::channel_axis(value);
    return *this;
  }
  /// As BatchNormOptions::single_value.
  ExtendedBatchNormOptions& single_value(SingleValue value) {
    BatchNormOptions::single_value(value);
    return *this;
  }
  /// As BatchNormOptions::activation.
  [[nodiscard]] ExtendedBatchNormOptions<true, Grouped> activation(Activation value) const {
    ExtendedBatchNormOptions<true, Grouped> result(*this);
    result.set_activation(value);
    return result;
  }
  /// As BatchNormOptions::virtual_batch_size.
  [[nodiscard]] ExtendedBatchNormOptions<Fused, true> virtual_batch_size(Index samples) const {
    ExtendedBatchNormOptions<Fused, true> result(*this);
    result.set_virtual_batch_size(samples);
    return result;
  }
  /// As BatchNormOptions::renorm.
  [[nodiscard]] ExtendedBatchNormOptions<Fused, true> renorm(double r_max, double d_max) const {
    ExtendedBatchNormOptions<Fused, true> result(*this);
    result.set_renorm(r_max, d_max);
    return result;
  }

 private:
  friend class BatchNormOptions;
  template <bool F, bool G>
  friend class ExtendedBatchNormOptions;
  explicit ExtendedBatchNormOptions(const BatchNormOptions& options) : BatchNormOptions(options) {}
};

inline FusedBatchNormOptions BatchNormOptions::activation(Activation value) const {
  FusedBatchNormOptions result(*this);
  result.set_activation(value);
  return result;
}
inline ExtendedBatchNormOptions<false, true> BatchNormOptions::virtual_batch_size(Index samples) const {
  ExtendedBatchNormOptions<false, true> result(*this);
  result.set_virtual_batch_size(samples);
  return result;
}
inline ExtendedBatchNormOptions<false, true> BatchNormOptions::renorm(double r_max, double d_max) const {
  ExtendedBatchNormOptions<false, true> result(*this);
  result.set_renorm(r_max, d_max);
  return result;
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_OPTIONS_HPP
