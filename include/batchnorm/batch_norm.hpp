// The layer.

#ifndef BATCHNORM_BATCH_NORM_HPP
#define BATCHNORM_BATCH_NORM_HPP

#include <cstdint>
#include <utility>

#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/saved_statistics.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// Batch normalization of Eigen tensors (Ioffe and Szegedy, arXiv 1502.03167): each channel is shifted and scaled to
/// mean 0 and variance 1, then by a learnable weight (gamma) and bias (beta),
///
///     y = (x - mean) / sqrt(variance + epsilon) * weight + bias
///
/// with the mean and biased variance of the batch in training, of which running averages are kept, and with those
/// averages in inference.
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
///       bn.eval();
///       auto z = bn.forward(x);  // inference: running statistics
///     }
///
/// `T` is the tensors' scalar: float or double by vector kernels, any other type that behaves like a real number by a
/// plain path. `Dims` is their rank, at least 2. The channel axis is 1 unless the options say otherwise.
///
/// Inputs are RowMajor or ColMajor tensors of any kind: Tensor, TensorFixedSize, TensorMap, also of const, which are
/// read in place, or any expression of them, which is evaluated into one temporary. Where the first argument is an
/// Eigen device, the work is done on its threads; the results are the same bits on any number of them.
///
/// Calls that write into the caller's memory allocate nothing after the first with a shape. A call that throws before
/// it begins to compute has changed nothing; if a task on the caller's device throws, that exception comes out of the
/// call, the layer is as before, and the contents of the output are unspecified.
///
/// Copies are independent layers. One layer may be used by one thread at a time, save for `infer`.
template <class T, int Dims>
class BatchNorm {
  static_assert(Dims >= 2, "batchnorm: Dims is the rank of the tensors, at least 2");

 public:
  using Scalar = T;
  /// Sums, statistics and per-channel algebra: double for float and double, else T.
  using Accumulator = detail::accumulator_t<T>;
  /// Parameters, running statistics and gradients of parameters.
  using Param = T;
  using Vector = Eigen::Tensor<Param, 1>;
  using Index = Eigen::Index;
  using SavedStatistics = batchnorm::SavedStatistics<Accumulator, Dims>;

  /// A layer in training mode with weight 1, bias 0, running mean 0 and running variance 1. Converts from a number of
  /// channels. Throws std::invalid_argument if tensors of rank Dims have no such channel axis, or if
  /// SingleValue::use_running is asked for without running statistics.
  BatchNorm(const BatchNormOptions& options)  // NOLINT(google-explicit-constructor)
      : options_(options), axis_(detail::normalized_axis(options.channel_axis(), Dims)) {
    detail::require(options.track_running_stats() || options.single_value() != SingleValue::use_running,
                    "expected track_running_stats(true) for single_value(SingleValue::use_running), got false");
    const Index channels = options.num_features();
    weight_.resize(options.scale() ? channels : 0);
    bias_.resize(options.shift() ? channels : 0);
    weight_grad_.resize(weight_.size());
    bias_grad_.resize(bias_.size());
    running_mean_.resize(options.track_running_stats() ? channels : 0);
    running_var_.resize(running_mean_.size());
    saved_.resize(channels);
    scratch_.resize(channels);
    reset_parameters();
    zero_grad();
  }

  /// The settings, as they were given.
  const BatchNormOptions& options() const { return options_; }

  /// \name State
  /// The user may write to all of these. Sizes are checked at every call: num_features, or 0 where an option switches
  /// the thing off.
  ///@{
  Vector& weight() { return weight_; }  ///< The scale (gamma), [num_features].
  const Vector& weight() const { return weight_; }
  Vector& bias() { return bias_; }  ///< The shift (beta), [num_features].
  const Vector& bias() const { return bias_; }
  Vector& running_mean() { return running_mean_; }  ///< Of the batches seen in training, [num_features].
  const Vector& running_mean() const { return running_mean_; }
  Vector& running_var() { return running_var_; }  ///< Likewise, biased or unbiased as options().running_variance().
  const Vector& running_var() const { return running_var_; }
  Vector& weight_grad() { return weight_grad_; }  ///< The sum of all backward passes' since zero_grad().
  const Vector& weight_grad() const { return weight_grad_; }
  Vector& bias_grad() { return bias_grad_; }  ///< Likewise.
  const Vector& bias_grad() const { return bias_grad_; }
  ///@}

  /// How many batches the running statistics have seen, empty ones included.
  std::int64_t num_batches_tracked() const { return num_batches_tracked_; }

  /// The statistics of the last forward pass, whatever its mode, for a later `backward`.
  const SavedStatistics& saved_statistics() const { return saved_; }

  /// Sets the gradients of the parameters to 0.
  BatchNorm& zero_grad() {
    fill(weight_grad_, 0);
    fill(bias_grad_, 0);
    return *this;
  }

  /// Sets the running mean to 0, the running variance to 1, and num_batches_tracked to 0.
  BatchNorm& reset_running_stats() {
    fill(running_mean_, 0);
    fill(running_var_, 1);
    num_batches_tracked_ = 0;
    return *this;
  }

  /// Sets the weight to 1, the bias to 0, and the running statistics as reset_running_stats() does.
  BatchNorm& reset_parameters() {
    fill(weight_, 1);
    fill(bias_, 0);
    return reset_running_stats();
  }

  /// Training mode, or inference with `train(false)`.
  BatchNorm& train(bool on = true) {
    training_ = on;
    return *this;
  }
  /// Inference mode.
  BatchNorm& eval() { return train(false); }
  bool is_training() const { return training_; }

  /// Normalizes x by the present mode. Four call shapes:
  ///
  ///     y = forward(x)            forward(x, y)
  ///     y = forward(device, x)    forward(device, x, y)
  ///
  /// In training by the statistics of x, with which it updates the running ones; in inference by the running ones, or
  /// by those of x if none are tracked. A returned tensor has x's layout and index type. y, a tensor or map of x's
  /// type, shape and layout, is never resized; it may be x itself, but not overlap it otherwise.
  ///
  /// An empty x counts as a batch and changes nothing else. Where a batch has one value per channel,
  /// options().single_value() decides. Throws std::invalid_argument for shapes and sizes that do not fit.
  template <class First, class... Rest>
  auto forward(const First& first, Rest&&... rest) {
    if constexpr (detail::is_tensor<First>) {
      return forward_on(Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      detail::check_device_type<First>();
      return forward_on(first, std::forward<Rest>(rest)...);
    }
  }

  /// Inference whatever the mode, in the four call shapes of `forward`. Touches no state, allocates nothing where it
  /// writes into the caller's memory, and may be called from many threads at once.
  template <class First, class... Rest>
  auto infer(const First& first, Rest&&... rest) const {
    if constexpr (detail::is_tensor<First>) {
      return infer_on(Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      detail::check_device_type<First>();
      return infer_on(first, std::forward<Rest>(rest)...);
    }
  }

  /// The gradient of a loss with respect to x, given that with respect to y, and adds those of the parameters into
  /// weight_grad() and bias_grad(). Four call shapes, each of which may end with saved statistics:
  ///
  ///     dx = backward(x, dy)            backward(x, dy, dx)
  ///     dx = backward(device, x, dy)    backward(device, x, dy, dx)
  ///
  /// x is that of the forward: the layer keeps no copy of it, only the statistics that the forward used. It goes back
  /// through the last forward, or that of the saved statistics, whatever the mode is now, and with the present weight.
  /// Running statistics were constants to the forward that used them; those of a batch pass the gradient on. dx, a
  /// tensor or map of x's type, shape and layout, is never resized; it may be dy or x itself, but not overlap them
  /// otherwise.
  ///
  /// Throws std::logic_error without a forward, and for an x that a forward in place has overwritten;
  /// std::invalid_argument for shapes and sizes that do not fit.
  template <class First, class... Rest>
  auto backward(const First& first, Rest&&... rest) {
    if constexpr (detail::is_tensor<First>) {
      return backward_on(Eigen::DefaultDevice(), first, std::forward<Rest>(rest)...);
    } else {
      detail::check_device_type<First>();
      return backward_on(first, std::forward<Rest>(rest)...);
    }
  }

 private:
  using View = detail::View;
  using Shape = detail::Shape<Dims>;
  using Statistics = detail::ChannelStatistics<Accumulator>;

  // --- Call shapes: an expression becomes a tensor, a tensor becomes a view of its memory.

  template <class Device, class X>
  detail::tensor_like<X> forward_on(const Device& device, const X& x) {
    detail::check_input_type<T, Dims, X>();
    const auto& input = detail::evaluated(device, x);
    auto y = detail::result_like(input);
    forward_into(device, input, y);
    return y;
  }

  template <class Device, class X, class Y>
  void forward_on(const Device& device, const X& x, Y&& y) {
    detail::check_input_type<T, Dims, X>();
    detail::check_output_type<X, Y>();
    forward_into(device, detail::evaluated(device, x), y);
  }

  template <class Device, class X>
  detail::tensor_like<X> infer_on(const Device& device, const X& x) const {
    detail::check_input_type<T, Dims, X>();
    const auto& input = detail::evaluated(device, x);
    auto y = detail::result_like(input);
    infer_into(device, input, y);
    return y;
  }

  template <class Device, class X, class Y>
  void infer_on(const Device& device, const X& x, Y&& y) const {
    detail::check_input_type<T, Dims, X>();
    detail::check_output_type<X, Y>();
    infer_into(device, detail::evaluated(device, x), y);
  }

  template <class Device, class X, class Dy, class... Last>
  auto backward_on(const Device& device, const X& x, const Dy& dy, Last&&... last) {
    detail::check_input_type<T, Dims, X>();
    detail::check_input_type<T, Dims, Dy>();
    static_assert(static_cast<int>(detail::layout_of<X>) == static_cast<int>(detail::layout_of<Dy>),
                  "batchnorm: the layout of dy differs from that of x (RowMajor or ColMajor)");
    return backward_with(device, detail::evaluated(device, x), detail::evaluated(device, dy),
                         std::forward<Last>(last)...);
  }

  template <class Device, class X, class Dy>
  detail::tensor_like<X> backward_with(const Device& device, const X& x, const Dy& dy) {
    return backward_with(device, x, dy, saved_);
  }

  template <class Device, class X, class Dy, class Last>
  auto backward_with(const Device& device, const X& x, const Dy& dy, Last&& last) {
    if constexpr (std::is_same_v<detail::plain<Last>, SavedStatistics>) {
      auto dx = detail::result_like(x);
      backward_into(device, x, dy, dx, last);
      return dx;
    } else {
      backward_with(device, x, dy, std::forward<Last>(last), saved_);
    }
  }

  template <class Device, class X, class Dy, class Dx>
  void backward_with(const Device& device, const X& x, const Dy& dy, Dx&& dx, const SavedStatistics& saved) {
    detail::check_output_type<X, Dx>();
    backward_into(device, x, dy, dx, saved);
  }

  // --- Passes.

  template <class Device, class X, class Y>
  void forward_into(const Device& device, const X& x, Y& y) {
    const Shape shape = detail::shape_of(x);
    const View view = check_call(shape, detail::layout_of<X>);
    const T* const from = x.data();
    T* const to = y.data();
    check_output("y", detail::shape_of(y), "x", shape);
    detail::check_overlap<T>("x", from, "y", to, view.size());
    const bool batch = uses_batch(training_, shape, view);

    scratch_.resize(num_features());
    if (view.size() != 0) {
      if (batch) {
        normalize_by_batch(device, view, from, to, &moments_workspace_,
                           [this](Index c, const detail::ChannelMoments<Accumulator>& moments, const Statistics& s) {
                             scratch_.statistics.set(c, s);
                             scratch_.M2(c) = moments.M2;
                           });
      } else {
        for (Index c = 0; c < num_features(); ++c) scratch_.statistics.set(c, running_statistics(c));
        detail::normalize(device, view, from, to, [this](Index c) {
          return detail::normalize_terms(scratch_.statistics[c], weight_of(c), bias_of(c));
        });
      }
    }
    // From here on nothing throws.
    scratch_.statistics.shape_ = shape;
    scratch_.statistics.constant_ = !batch;
    scratch_.statistics.overwritten_ = from == to ? from : nullptr;
    scratch_.statistics.has_forward_ = true;
    if (training_ && options_.track_running_stats()) update_running_stats(view);
    std::swap(saved_, scratch_.statistics);
  }

  template <class Device, class X, class Y>
  void infer_into(const Device& device, const X& x, Y& y) const {
    const Shape shape = detail::shape_of(x);
    const View view = check_call(shape, detail::layout_of<X>);
    const T* const from = x.data();
    T* const to = y.data();
    check_output("y", detail::shape_of(y), "x", shape);
    detail::check_overlap<T>("x", from, "y", to, view.size());
    if (uses_batch(false, shape, view)) {
      if (view.size() == 0) return;
      normalize_by_batch(device, view, from, to, nullptr,
                         [](Index, const detail::ChannelMoments<Accumulator>&, const Statistics&) {});
    } else if (view.size() != 0) {
      detail::normalize(device, view, from, to, [this](Index c) {
        return detail::normalize_terms(running_statistics(c), weight_of(c), bias_of(c));
      });
    }
  }

  // record(c, moments, statistics) is called once for each channel.
  template <class Device, class Record>
  void normalize_by_batch(const Device& device, const View& view, const T* x, T* y,
                          detail::MomentsWorkspace<Accumulator>* workspace, const Record& record) const {
    const Index n = view.values_per_channel();
    detail::accumulate_moments(
        device, view, x, workspace,
        [&](Index c, const detail::ChannelMoments<Accumulator>& moments) {
          const Statistics s = detail::batch_statistics(moments, n, options_.epsilon());
          record(c, moments, s);
          return detail::normalize_terms(s, weight_of(c), bias_of(c));
        },
        [&](const detail::Tile& tile, const detail::NormalizeTerms<Accumulator>* terms, bool just_read) {
          detail::normalize(view, tile, terms, x, y, just_read);
        });
  }

  template <class Device, class X, class Dy, class Dx>
  void backward_into(const Device& device, const X& x, const Dy& dy, Dx& dx, const SavedStatistics& saved) {
    if (!saved.has_forward()) detail::fail<std::logic_error>("expected a forward before backward, got none");
    const Shape shape = detail::shape_of(x);
    const View view = check_call(shape, detail::layout_of<X>);
    check_output("x", shape, "x in its forward", saved.shape());
    check_vector("mean in the saved statistics", saved.mean(), true);
    check_output("dy", detail::shape_of(dy), "x", shape);
    check_output("dx", detail::shape_of(dx), "x", shape);
    const T *const x_data = x.data(), *const dy_data = dy.data();
    T* const dx_data = dx.data();
    if (view.size() == 0) return;
    if (saved.overwritten_ == x_data) {
      detail::fail<std::logic_error>(
          "expected the x that went into the forward, got the buffer that the forward, done in place, overwrote with "
          "y");
    }
    detail::check_overlap<T>("x", x_data, "dx", dx_data, view.size());
    detail::check_overlap<T>("dy", dy_data, "dx", dx_data, view.size());

    const Index n = view.values_per_channel();
    scratch_.resize(num_features());
    detail::accumulate_gradients(
        device, view, x_data, dy_data, saved.mean().data(), saved.mean_residual().data(), &gradients_workspace_,
        [&](Index c, const detail::ChannelGradients<Accumulator>& sums) {
          const Statistics s = saved[c];
          scratch_.weight_grad(c) = detail::weight_gradient(s, sums);
          scratch_.bias_grad(c) = sums.dy;
          return detail::gradient_terms(s, sums, n, weight_of(c));
        },
        [&](const detail::Tile& tile, const detail::GradientTerms<Accumulator>* terms, bool just_read) {
          if (saved.constant()) {
            detail::NormalizeTerms<Accumulator> constant[detail::max_columns];
            for (Index c = 0; c < tile.channels(); ++c) {
              constant[c] =
                  detail::constant_gradient_terms(saved[tile.channel_begin + c], weight_of(tile.channel_begin + c));
            }
            detail::normalize(view, tile, constant, dy_data, dx_data, just_read);
          } else {
            detail::apply_gradients(view, tile, terms, x_data, dy_data, dx_data, just_read);
          }
        });
    // From here on nothing throws.
    for (Index c = 0; c < weight_grad_.size(); ++c) add(weight_grad_(c), scratch_.weight_grad(c));
    for (Index c = 0; c < bias_grad_.size(); ++c) add(bias_grad_(c), scratch_.bias_grad(c));
  }

  // --- Per channel.

  Index num_features() const { return options_.num_features(); }
  Accumulator weight_of(Index c) const { return options_.scale() ? Accumulator(weight_(c)) : Accumulator(1); }
  Accumulator bias_of(Index c) const { return options_.shift() ? Accumulator(bias_(c)) : Accumulator(0); }

  Statistics running_statistics(Index c) const {
    return {Accumulator(running_mean_(c)), Accumulator(0),
            detail::inverse_std(Accumulator(running_var_(c)), options_.epsilon())};
  }

  // With the moments of the batch in scratch_, none of them where it was empty or the running statistics were used.
  void update_running_stats(const View& view) {
    const Index n = view.values_per_channel();
    const bool single_value_kept = n == 1 && options_.single_value() != SingleValue::allow;
    if (single_value_kept) return;
    ++num_batches_tracked_;
    if (n == 0) return;
    const double momentum = options_.momentum().value_or(1 / static_cast<double>(num_batches_tracked_));
    for (Index c = 0; c < num_features(); ++c) {
      const Accumulator mean = scratch_.statistics.mean()(c) + scratch_.statistics.mean_residual()(c);
      const Accumulator variance = detail::variance_of(Accumulator(scratch_.M2(c)), n, options_.running_variance());
      running_mean_(c) = static_cast<Param>(detail::moving_average(Accumulator(running_mean_(c)), mean, momentum));
      running_var_(c) = static_cast<Param>(detail::moving_average(Accumulator(running_var_(c)), variance, momentum));
    }
  }

  static void fill(Vector& vector, double value) {
    for (Index c = 0; c < vector.size(); ++c) vector(c) = Param(value);
  }
  static void add(Param& sum, const Accumulator& more) { sum = static_cast<Param>(Accumulator(sum) + more); }

  // --- Checks.

  // Whether the statistics of x are used, not the running ones.
  bool uses_batch(bool training, const Shape& shape, const View& view) const {
    if (!training && options_.track_running_stats()) return false;
    if (view.values_per_channel() != 1) return true;
    detail::require(options_.single_value() != SingleValue::error,
                    "expected more than one value per channel to take statistics of, got shape ",
                    detail::shape_text(shape), " (see BatchNormOptions::single_value)");
    return options_.single_value() != SingleValue::use_running;
  }

  View check_call(const Shape& shape, int layout) const {
    const auto axis = static_cast<std::size_t>(axis_);
    detail::require(shape[axis] == num_features(), "expected ", num_features(), " channels on axis ", axis_, ", got ",
                    shape[axis], " in shape ", detail::shape_text(shape));
    check_vector("weight", weight_, options_.scale());
    check_vector("bias", bias_, options_.shift());
    check_vector("weight_grad", weight_grad_, options_.scale());
    check_vector("bias_grad", bias_grad_, options_.shift());
    check_vector("running_mean", running_mean_, options_.track_running_stats());
    check_vector("running_var", running_var_, options_.track_running_stats());
    return detail::make_view(shape, layout, axis_);
  }

  template <class AnyVector>
  void check_vector(const char* name, const AnyVector& vector, bool used) const {
    const Index expected = used ? num_features() : 0;
    detail::require(vector.size() == expected, "expected ", name, " of size ", expected, ", got ", vector.size());
  }

  static void check_output(const char* name, const Shape& shape, const char* other, const Shape& expected) {
    detail::require(shape == expected, "expected ", name, " of the shape of ", other, ", ",
                    detail::shape_text(expected), ", got ", detail::shape_text(shape));
  }

  // What a call computes before it changes the layer, so that one that throws has changed nothing. Kept for its memory.
  struct Scratch {
    SavedStatistics statistics;
    Eigen::Tensor<Accumulator, 1> M2, weight_grad, bias_grad;

    void resize(Index channels) {
      statistics.resize(channels);
      M2.resize(channels);
      weight_grad.resize(channels);
      bias_grad.resize(channels);
    }
  };

  BatchNormOptions options_;
  int axis_;
  bool training_ = true;
  std::int64_t num_batches_tracked_ = 0;
  Vector weight_, bias_, weight_grad_, bias_grad_, running_mean_, running_var_;
  SavedStatistics saved_;
  Scratch scratch_;
  detail::MomentsWorkspace<Accumulator> moments_workspace_;
  detail::GradientsWorkspace<Accumulator> gradients_workspace_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_BATCH_NORM_HPP
