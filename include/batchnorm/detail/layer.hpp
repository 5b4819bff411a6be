// The state of a layer and its passes over tensors whose type no longer matters.

#ifndef BATCHNORM_DETAIL_LAYER_HPP
#define BATCHNORM_DETAIL_LAYER_HPP

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/fusion.hpp"
#include "batchnorm/detail/movable_flag.hpp"
#include "batchnorm/detail/primitives.hpp"
#include "batchnorm/detail/schedule/any_device.hpp"
#include "batchnorm/detail/staying_pointer.hpp"
#include "batchnorm/detail/synchronizer.hpp"
#include "batchnorm/moments.hpp"
#include "batchnorm/options.hpp"
#include "batchnorm/saved_statistics.hpp"
#include "batchnorm/statistics.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Decides which statistics normalize an x of this shape: those that were asked for, or else those of the mode. Throws
/// where they would be those of a single value and the options call that an error.
template <class Shape>
StatisticsKind statistics_for(const std::optional<Statistics>& asked, bool training, const BatchNormOptions& options,
                              Index values_per_channel, const Shape& shape) {
  const bool tracked = options.track_running_stats();
  const Statistics statistics = asked ? *asked : !training && tracked ? Statistics::running : Statistics::batch;
  if (statistics != Statistics::batch) {
    if (!tracked) {
      fail<std::logic_error>(
          "expected a layer with running statistics for normalize_with(Statistics::running or mixed), got one of "
          "track_running_stats(false)");
    }
    return statistics.is_mixed() ? StatisticsKind::mixed : StatisticsKind::running;
  }
  if (values_per_channel != 1) return StatisticsKind::batch;
  require(options.single_value() != SingleValue::error,
          "expected more than one value per channel to take statistics of, got shape ", shape_text(shape),
          " (see BatchNormOptions::single_value)");
  return options.single_value() == SingleValue::use_running ? StatisticsKind::running : StatisticsKind::batch;
}

/// Whether a forward over so many values per channel may enter the running statistics: an empty batch has nothing to
/// say, and what a single value says the options decide.
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
  using Kernels = FusedKernels<T>;
  using Extras = ForwardExtras<T, Dims>;
  using GradientExtras = BackwardExtras<T, Dims>;
  using Extended = ExtendedTable<T, Dims>;

  struct Scratch {
    Saved saved{};
    Vector running_mean{}, running_var{}, weight_grad{}, bias_grad{};
    Eigen::Tensor<A, 1> M2{}, dweight{}, dbias{};
    std::vector<A> batch_mean{};  // where the batch's statistics do not normalize it and enter the running ones
    std::vector<A> sums{};        // those over the x of a backward, for check_backward
  };

  BatchNormOptions options;
  const Kernels* fused;      // null without an activation
  const Extended* extended;  // null until something needs it
  int axis;
  // By way of the constructor, so that units that are handed a layer need not compile it.
  void (*resize)(Layer&, Index) = &resize_to;
  bool training = true;
  std::optional<Statistics> normalize_with{};  // in place of those of the mode
  std::optional<bool> updates{};               // whether a forward updates the running statistics, likewise
  bool check_backward = false;
  MovableFlag whole = true;  // false once the layer was moved from
  std::int64_t num_batches_tracked = 0;
  Vector weight{}, bias{}, weight_grad{}, bias_grad{}, running_mean{}, running_var{};
  Saved saved{};
  Scratch scratch{};
  // While `reestimate` is at work: what takes the moments of each batch in place of the running statistics.
  StayingPointer<BasicMoments<A>> collector{};
  // Of a layer whose batch is split over processes.
  StayingPointer<const Synchronizer<A>> synchronizer{};
  Workspace<A> workspace{}, forward_workspace{};  // the latter for coefficients of the forward in a fused backward
  std::vector<T> position_weights{};
  ExtendedScratch<A> extended_scratch{};
  double clipped_share = 0;

  Layer(const BatchNormOptions& given, const Kernels* kernels, const Extended* table)
      : options(given), fused(kernels), extended(table), axis(normalized_axis(given.channel_axis(), Dims)) {
    require(
        fused != nullptr || given.activation() == Activation::none,
        "expected options with an activation as activation(...) returned them, got a copy as BatchNormOptions: keep "
        "them as auto, or write options.activation(options.activation())");
    require(extended != nullptr || (given.virtual_batch_size() == 0 && !given.renorm()),
            "expected options with ghost batches or renormalization as virtual_batch_size(...) or renorm(...) returned "
            "them, got a copy as BatchNormOptions: keep them as auto");
    require(!given.renorm() || given.track_running_stats(),
            "expected track_running_stats(true) for batch renormalization, got false");
    require(given.track_running_stats() || given.single_value() != SingleValue::use_running,
            "expected track_running_stats(true) for single_value(SingleValue::use_running), got false");
    resize(*this, channels());
  }

  Layer(const Layer&) = default;
  Layer& operator=(const Layer&) = default;
  // Eigen's moves of tensors swap pointers and cannot throw, but are not declared so. A vector of layers copies them as
  // it grows, unless their moves are.
  Layer(Layer&&) noexcept = default;
  Layer& operator=(Layer&&) noexcept = default;
  ~Layer() = default;

  Eigen::Index channels() const { return options.num_features(); }
  // Of so many channels a forward keeps weight and bias.
  Eigen::Index kept_parameters() const { return fused != nullptr ? channels() : 0; }

  // --- Channels. A layer that was made without a number of them is lazy, and its vectors are empty, until it learns
  // it.

  bool lazy() const { return channels() == 0; }

  /// Gives a lazy layer its channels, and the initial weight, bias and running statistics, in a call that learns them;
  /// takes them away again unless the call comes to its end and keeps them.
  class FirstCall {
   public:
    explicit FirstCall(Layer& layer) : layer_(layer) {}
    FirstCall(const FirstCall&) = delete;
    FirstCall& operator=(const FirstCall&) = delete;
    ~FirstCall() {
      if (sized_) layer_.resize(layer_, 0);
    }
    void resize(Index count) {
      layer_.check_whole();
      layer_.check_parameters();  // that the user has put none in, which would be lost
      sized_ = true;
      layer_.resize(layer_, count);
    }
    void keep() { sized_ = false; }

   private:
    Layer& layer_;
    bool sized_ = false;
  };

  void check_has_channels() const {
    if (lazy()) {
      fail<std::logic_error>(
          "expected a layer that has its channels, got one that was made without their number, which it takes from its "
          "first forward in training, or from set_weight or another setter");
    }
  }

  static void fill(Vector& vector, double value) {
    for (Eigen::Index c = 0; c < vector.size(); ++c) vector(c) = number<Param>(value);
  }

  // To 0, which makes it lazy, it cannot throw.
  static void resize_to(Layer& layer, Index channels) {
    const auto count = static_cast<Eigen::Index>(channels);
    const BatchNormOptions& options = layer.options;
    layer.options.num_features_ = count;
    Scratch& scratch = layer.scratch;
    const Eigen::Index scaled = options.scale() ? count : 0, shifted = options.shift() ? count : 0;
    const Eigen::Index tracked = options.track_running_stats() ? count : 0;
    for (Vector* vector : {&layer.weight, &layer.weight_grad, &scratch.weight_grad}) vector->resize(scaled);
    for (Vector* vector : {&layer.bias, &layer.bias_grad, &scratch.bias_grad}) vector->resize(shifted);
    for (Vector* vector : {&layer.running_mean, &layer.running_var, &scratch.running_mean, &scratch.running_var}) {
      vector->resize(tracked);
    }
    for (auto* vector : {&scratch.M2, &scratch.dweight, &scratch.dbias}) vector->resize(count);
    layer.saved.resize(count, layer.kept_parameters());
    scratch.saved.resize(count, layer.kept_parameters());
    for (Vector* vector : {&layer.weight, &layer.running_var}) fill(*vector, 1);
    for (Vector* vector : {&layer.bias, &layer.running_mean, &layer.weight_grad, &layer.bias_grad}) fill(*vector, 0);
  }

  // --- Passes. `layout` is that of all tensors of a call.

  template <class Device>
  BATCHNORM_COLD void first_forward(const Device& device, int layout, const Input& x, const Output& y,
                                    const Extras& extras) {
    FirstCall first(*this);
    const Index count = x.shape[static_cast<std::size_t>(axis)];
    require(count >= 1, "expected at least 1 channel on axis ", axis, ", got ", count, " in shape ",
            shape_text(x.shape));
    first.resize(count);
    forward(device, layout, x, y, extras);
    first.keep();
  }

  template <class Device>
  void forward(const Device& device, int layout, const Input& x, const Output& y, const Extras& extras) {
    if (lazy() && training) return first_forward(device, layout, x, y, extras);
    if (const Extended* const table = extended_for(extras)) {
      return table->forward(*this, AnyDevice(device), layout, x, y, extras);
    }
    const Writer write = checked_writer(layout, x, y, extras);
    const View& view = write.view;
    const StatisticsKind kind = statistics_for(normalize_with, learns(), options, view.values_per_channel(), x.shape);
    const bool update = updates_from(view.values_per_channel());
    if (check_backward) keep_sums(device, layout, view, write.x());
    if (scratch.saved.mean_.size() != channels()) scratch.saved.resize(channels(), kept_parameters());
    if (update && kind == StatisticsKind::running) take_moments(device, view, write.x());
    if (view.size() == 0) {
      // Nothing to compute.
    } else if (kind == StatisticsKind::batch) {
      normalize_by_batch(device, write, workspace, [&](Index c, Index count, const MomentSums<A>& sums) {
        const auto statistics = from_channel(scratch.saved.arrays(), c);
        set_batch_statistics(count, sums, number<A>(view.values_per_channel()), options.epsilon(), statistics,
                             scratch.M2.data() + c);
        return statistics;
      });
    } else {
      const ChannelStatistics<A> statistics = scratch.saved.arrays();
      set_running_statistics(channels(), running_mean.data(), running_var.data(), options.epsilon(), statistics);
      const auto coefficients = coefficients_in_workspace();
      set_normalize_coefficients(channels(), statistics, affine(0), coefficients);
      write_elements(device, view, write.work(device), [&](const Tile& tile, const Prefetches& prefetches) {
        write(tile, prefetches, from_channel(coefficients, tile.channel_begin));
      });
    }
    scratch.saved.shape_ = x.shape;
    scratch.saved.kind_ = kind;
    scratch.saved.has_forward_ = true;
    scratch.saved.has_residual_ = extras.has_residual;
    scratch.saved.has_sums_ = check_backward && view.size() != 0;
    scratch.saved.extended_.used = false;
    if (fused != nullptr) keep_parameters();
    if (update) {
      const ChannelStatistics<A> batch =
          kind == StatisticsKind::running ? quantities_in<ChannelStatistics<A>>(scratch.batch_mean.data(), channels())
                                          : scratch.saved.arrays();
      const Index n = view.values_per_channel();
      if (collector.get() != nullptr) {
        MomentsAccess::add(*collector.get(), n, number<A>(n), [&](Eigen::Index c) {
          return ChannelMoments<A>{batch.mean()[c], batch.mean_residual()[c], scratch.M2(c)};
        });
      } else {
        update_running_stats(batch.mean(), [&](auto type, Index c) {
          const auto M2 = load<typename decltype(type)::Pack>(scratch.M2.data() + c);
          return variance_of(M2, number<A>(n), options.running_variance());
        });
      }
    }
    saved.swap(scratch.saved);
  }

  template <class Device>
  void infer(const Device& device, int layout, const Input& x, const Output& y, const Extras& extras) const {
    if (const Extended* const table = extended_for(extras)) {
      return table->infer(*this, AnyDevice(device), layout, x, y, extras);
    }
    const Writer write = checked_writer(layout, x, y, extras);
    const View& view = write.view;
    const StatisticsKind kind = statistics_for(normalize_with, false, options, view.values_per_channel(), x.shape);
    if (view.size() == 0) return;
    if (kind == StatisticsKind::batch) {
      normalize_by_batch(device, write, NoWorkspace(), [&](Index, Index count, const MomentSums<A>& sums) {
        // In place of the sums, which are read before.
        ChannelStatistics<A> statistics;
        std::copy_n(sums.arrays, ChannelStatistics<A>::count, statistics.arrays);
        set_batch_statistics(count, sums, number<A>(view.values_per_channel()), options.epsilon(), statistics,
                             static_cast<A*>(nullptr));
        return statistics;
      });
    } else {
      write_elements(device, view, write.work(device), [&](const Tile& tile, const Prefetches& prefetches) {
        constexpr Index most = max_columns<A>;
        A memory[static_cast<std::size_t>(3 * most)];
        const NormalizeArrays<A> coefficients{{{memory, nullptr, memory + most, memory + 2 * most}}};
        const Index c = tile.channel_begin, count = tile.channels();
        set_running_coefficients(count, running_mean.data() + c, running_var.data() + c, options.epsilon(), affine(c),
                                 coefficients);
        write(tile, prefetches, coefficients);
      });
    }
  }

  /// Whether a forward goes by training's rules.
  bool learns() const { return training || collector.get() != nullptr; }
  /// Whether the running statistics, or what collects in their place, take a batch of so many values per channel.
  bool updates_from(Index values) const {
    return (collector.get() != nullptr || updates.value_or(training)) && enters_running_stats(options, values);
  }

  /// Whether a forward takes the statistics of its batch, of whatever size.
  bool takes_batch() const {
    const bool running =
        normalize_with ? *normalize_with == Statistics::running : !learns() && options.track_running_stats();
    return !running || (options.track_running_stats() && (collector.get() != nullptr || updates.value_or(training)));
  }

  /// The extended passes, where a call or the layer's settings ask for them.
  const Extended* extended_for(const Extras& extras) const {
    if (extras.extended != nullptr) return extras.extended;
    const bool asked = options.virtual_batch_size() != 0 || options.renorm() || synchronizer.get() != nullptr ||
                       (normalize_with.has_value() && normalize_with->is_mixed());
    return asked ? extended : nullptr;
  }

  /// Primitive 2 as a call asks for it: writes a tile of y, plain or with what is fused to it.
  struct Writer {
    View view;
    Operands<T, 1> x_to_y;
    const Kernels* kernels;
    Operands<T, 2> fused_tensors;
    FusedSettings<A> settings;

    const Elements<const T>& x() const { return x_to_y.in[0]; }
    template <class Device>
    Work work(const Device& device) const {
      Work result = work_on<T>(device, view, settings.has_residual ? 2 : 1);
      if (kernels != nullptr) result.most_columns = half_max_columns<A>;
      return result;
    }
    void operator()(const Tile& tile, const Prefetches& prefetches, const NormalizeArrays<A>& coefficients) const {
      if (kernels == nullptr) {
        normalize(view, tile, prefetches, coefficients, x_to_y);
      } else {
        kernels->normalize(view, tile, prefetches, coefficients, fused_tensors, settings);
      }
    }
  };

  Writer checked_writer(int layout, const Input& x, const Output& y, const Extras& extras) const {
    const View view = check_input(x.shape, layout);
    check_shape("y", y.shape, "x", x.shape);
    const Elements<const T> from = elements_of(x, view, axis);
    const Elements<T> to = elements_of(y, view, axis);
    check_overlap<T>("x", from, "y", to, view);
    Writer result{view, {{from}, {to}}, extras.kernels, {{from, from}, {to}}, settings()};
    if (extras.has_residual) {
      check_shape("the residual", extras.residual.shape, "x", x.shape);
      result.fused_tensors.in[1] = elements_of(extras.residual, view, axis);
      result.settings.has_residual = true;
      check_overlap<T>("the residual", result.fused_tensors.in[1], "y", to, view);
    }
    return result;
  }

  FusedSettings<A> settings() const {
    FusedSettings<A> result;
    result.slope = number<A>(options.activation().slope());
    return result;
  }

  // statistics_of(c, count, sums) gives those of `count` channels from c on.
  template <class Device, class Memory, class StatisticsOf>
  void normalize_by_batch(const Device& device, const Writer& write, Memory&& memory,
                          const StatisticsOf& statistics_of) const {
    accumulate_moments<summand_t<T>>(
        device, write.view, write.x(), memory,
        [&](Index c, Index count, const MomentSums<A>& sums, const NormalizeArrays<A>& coefficients) {
          set_normalize_coefficients(count, statistics_of(c, count, sums), affine(c), coefficients);
        },
        write, write.kernels != nullptr);
  }

  template <class Device>
  void backward(const Device& device, int layout, const Input& x, const Input& dy, const Output& dx,
                const Saved& forward, const GradientExtras& extras);

  // Everything that a backward checks before it writes.
  template <class Device>
  GradientTensors<T> checked_gradient(const Device& device, int layout, const Input& x, const Input& dy,
                                      const Output& dx, const Saved& forward, const GradientExtras& extras);

  // y is the output of a forward in place, from which x is recovered.
  template <class Device>
  void backward_from_output(const Device& device, int layout, const Input& y, const Input& dy, const Output& dx,
                            const Saved& forward);

  template <class Device>
  void plain_backward(const Device& device, const View& view, const Operands<T, 2>& tensors, const Saved& forward);

  // The same by the extended kernels, which only a layer that was made with an activation has: x (or y, from which it
  // is recovered), dy and y are read.
  template <class Device>
  void fused_backward(const Device& device, const View& view, const Operands<T, 3, 2>& tensors, const Saved& forward,
                      FusedSettings<A> fused_settings);

  // Of 16-bit numbers the means are known for more digits than any sum would tell.
  static bool sums_about_own_means(const Saved& forward) { return !forward.constant() && !is_16_bit<T>; }

  // What a backward left in scratch.
  void add_parameter_gradients() {
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

  // What a forward scales and shifts by, for its backward.
  void keep_parameters() {
    for (Eigen::Index c = 0; c < channels(); ++c) {
      scratch.saved.weight_(c) = options.scale() ? A(weight(c)) : A(1);
      scratch.saved.bias_(c) = options.shift() ? A(bias(c)) : A(0);
    }
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

  // With a batch's means, and variance_of(type, c), a pack of its variances.
  template <class VarianceOf>
  void update_running_stats(const A* means, const VarianceOf& variance) {
    const std::int64_t batches = next_count(num_batches_tracked);
    const A momentum = options.momentum() ? number<A>(*options.momentum()) : A(A(1) / number<A>(batches));
    set_moving_average(
        channels(), running_mean.data(), momentum,
        [&](auto type, Index c) { return load<typename decltype(type)::Pack>(means + c); },
        scratch.running_mean.data());
    set_moving_average(channels(), running_var.data(), momentum, variance, scratch.running_var.data());
    exchange(running_mean, scratch.running_mean);
    exchange(running_var, scratch.running_var);
    num_batches_tracked = batches;
  }

  // The moments of a batch that others normalize.
  template <class Device>
  void take_moments(const Device& device, const View& view, const Elements<const T>& x) {
    scratch.sums.resize(static_cast<std::size_t>(MomentSums<A>::count * channels()));
    scratch.batch_mean.resize(static_cast<std::size_t>(ChannelStatistics<A>::count * channels()));
    set_sums(device, view, x, scratch.sums);
    set_batch_statistics(channels(), quantities_in<MomentSums<A>>(scratch.sums.data(), channels()),
                         number<A>(view.values_per_channel()), options.epsilon(),
                         quantities_in<ChannelStatistics<A>>(scratch.batch_mean.data(), channels()), scratch.M2.data());
  }

  // One more, unless the type has no such number.
  static std::int64_t next_count(std::int64_t count) {
    return count == (std::numeric_limits<std::int64_t>::max)() ? count : count + 1;
  }

  // --- check_backward: a forward keeps sums over its x, and backward compares them with those over the x that it is
  // given. The sums of the same values in the same layout are the same on any device, whatever is in the tensor.

  template <class Device>
  void set_sums(const Device& device, const View& view, const Elements<const T>& x, std::vector<A>& sums);

  template <class Device>
  void keep_sums(const Device& device, int layout, const View& view, const Elements<const T>& x);

  template <class Device>
  void check_sums(const Device& device, int layout, const View& view, const Elements<const T>& x, const Saved& forward);

  // What makes a NaN decides its sign and payload, and for sums that is the order in which a compiler takes operands.
  static bool same_or_nan(const A& a, const A& b) { return a == b || (!(a == a) && !(b == b)); }

  [[noreturn]] BATCHNORM_COLD void fail_for_another_x(const View& view, Index c, const std::vector<A>& kept) const;

  // --- Checks.

  View checked_backward(int layout, const char* name, const Input& x, const Input& dy, const Output& dx,
                        const Saved& forward) const {
    if (!forward.has_forward()) fail<std::logic_error>("expected a forward before backward, got none");
    const View view = check_input(x.shape, layout);
    check_shape(name, x.shape, "x in its forward", forward.shape());
    const Index statistics = forward.extended_.used ? forward.extended_.groups * channels() : channels();
    require(forward.mean().size() == statistics, "expected mean in the saved statistics of size ", statistics, ", got ",
            forward.mean().size());
    check_shape("dy", dy.shape, name, x.shape);
    check_shape("dx", dx.shape, name, x.shape);
    return view;
  }

  // Saved statistics of a layer that was made without an activation tell nothing of its weight and bias.
  void check_kept(const Saved& forward) const {
    if (fused == nullptr || forward.weight_.size() != channels() || forward.bias_.size() != channels()) {
      fail<std::logic_error>(
          "expected a layer, and saved statistics of one, that was made with options.activation(...), "
          "be it Activation::none: others keep no weight and bias of their forward");
    }
  }

  // x - mean is (y - bias) / weight, whose digits a bias takes that is large beside the weight.
  static void check_invertible(Eigen::Index c, const A& weight, const A& bias) {
    using std::abs;
    constexpr int most = 4096;
    const A size = abs(weight);
    const bool finite = size - size == A(0);
    require(finite && size > A(0) && abs(bias) <= A(most) * size,
            "expected a finite weight other than 0, and a bias of no more than ", most,
            " times it, in the forward of backward_from_output, got another in channel ", c);
  }

  Elements<T> checked_residual_grad(const View& view, const Operands<T, 2>& tensors,
                                    const GradientExtras& extras) const {
    const Elements<T> result = elements_of(extras.residual_grad, view, axis);
    check_apart<T>("x", tensors.in[0], "the residual's gradient", result, view);
    check_overlap<T>("dy", tensors.in[1], "the residual's gradient", result, view);
    check_apart<T>("dx", tensors.out[0], "the residual's gradient", result, view);
    if (extras.has_output) {
      check_apart<T>("the output", elements_of(extras.output, view, axis), "the residual's gradient", result, view);
    }
    return result;
  }

  View check_input(const Shape<Dims>& shape, int layout) const {
    check_whole();
    check_has_channels();
    const Index found = shape[static_cast<std::size_t>(axis)];
    require(found == channels(), "expected ", channels(), " channels on axis ", axis, ", got ", found, " in shape ",
            shape_text(shape), OtherAxisText<Shape<Dims>>{shape, channels(), axis, true});
    check_parameters();
    check_vector("weight_grad", weight_grad, options.scale());
    check_vector("bias_grad", bias_grad, options.shift());
    return make_view(shape, layout, axis);
  }

  // Whether moments of so many values make running statistics.
  void check_moments(Index count) const {
    require(options.track_running_stats(),
            "expected a layer with running statistics, got one of track_running_stats(false)");
    require(count > 1 || (count == 1 && options.single_value() == SingleValue::allow),
            "expected moments of more than one value per channel (see BatchNormOptions::single_value), got ", count);
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

/// The way to what a BatchNorm is made of.
struct LayerAccess {
  template <class Bn>
  static auto& layer(Bn& bn) {
    return bn.layer_;
  }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_LAYER_HPP
