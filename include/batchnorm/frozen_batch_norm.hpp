// Batch normalization whose statistics and parameters do not change: inference and nothing else.

#ifndef BATCHNORM_FROZEN_BATCH_NORM_HPP
#define BATCHNORM_FROZEN_BATCH_NORM_HPP

#include <limits>
#include <utility>

#include "batchnorm/activation.hpp"
#include "batchnorm/detail/frozen/arguments.hpp"
#include "batchnorm/detail/frozen/coefficients.hpp"
#include "batchnorm/detail/frozen/kernels.hpp"
#include "batchnorm/tags.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
struct Folding;
}

/// Batch normalization with fixed statistics and parameters, as torchvision's FrozenBatchNorm2d:
///
///     y = (x - mean) / sqrt(variance + epsilon) * weight + bias
///
/// for each channel. It is for programs that only run a trained network, as part of a game or of an audio plug-in, and
/// asks less of them than the layer does: its header needs Eigen/Core alone and C++14.
///
///     #include <batchnorm/frozen_batch_norm.hpp>
///     #include <vector>
///
///     int main() {
///       const std::vector<float> weight(16, 1), bias(16, 0), mean(16, 3), variance(16, 4);
///       const batchnorm::FrozenBatchNorm<float> bn(weight, bias, mean, variance, 1e-5, 0);  // channels are rows
///       Eigen::MatrixXf x = Eigen::MatrixXf::Random(16, 512), y(16, 512);
///       bn.apply(x, y);
///       bn.apply(x, x, [](const auto& a) { return a.tanh(); });  // in place, and then an activation
///     }
///
/// `T` is the scalar of the data: float, double, Eigen::half, Eigen::bfloat16 or another type of real numbers.
/// `Channels` is their number where the compiler knows it, which is faster for single samples and needs no heap.
///
/// `apply` never throws, allocates, locks or calls the system, and so is fit for a real-time thread; any number of
/// threads may call it at once as long as no one changes the object. It subtracts the mean before anything else, and so
/// keeps the digits of an x that is near a large mean, under -Ofast too (GCC and Clang). It uses the instructions that
/// the program is compiled for. A wrong shape is an `eigen_assert`, as in Eigen.
///
/// Where variance + epsilon is 0, 1 / sqrt(variance + epsilon) is taken to be 0, and where it is negative, NaN.
template <class T, int Channels = Eigen::Dynamic>
class FrozenBatchNorm {
  static_assert(!Eigen::NumTraits<T>::IsInteger,
                "batchnorm: integers cannot hold normalized values: use float or double");
  static_assert(!Eigen::NumTraits<T>::IsComplex,
                "batchnorm: complex numbers cannot be normalized: use their real and imaginary parts");
  static_assert(Channels >= 1 || Channels == Eigen::Dynamic,
                "batchnorm: Channels is a number of channels of at least 1, or Eigen::Dynamic");

  using ArgumentKind = detail::frozen::ArgumentKind;
  using Strides = detail::frozen::Strides;

  // Whether arguments like these are pointers to data of T.
  template <class X, class Y>
  struct takes_pointers
      : std::integral_constant<bool, std::is_convertible<X, const T*>::value && std::is_convertible<Y, T*>::value> {};

  // Whether an argument is a size, as that of apply(x, y, outer, inner).
  template <class X>
  struct is_index : std::is_integral<std::decay_t<X>> {};

 public:
  /// The scalar of x and y.
  using Scalar = T;
  /// The type of the per-channel algebra: double for float, double and the 16-bit types, else T.
  using Accumulator = detail::frozen::accumulator_t<T>;
  /// Sizes, signed and of 64 bits.
  using Index = detail::frozen::Index;
  /// One number for each channel: float for the 16-bit types, else T.
  using Vector = Eigen::Matrix<detail::frozen::param_t<T>, Channels, 1>;

  /// The identity, to be filled by the setters: weight 1, bias 0, mean 0, variance 1, epsilon 0. If the number of
  /// channels is Eigen::Dynamic it is 0 at first, and the first setter's number.
  FrozenBatchNorm() { resize(fixed ? Channels : 0); }

  /// The identity for so many channels, at least 1; with Channels known at compile time, for that number.
  explicit FrozenBatchNorm(Index channels) {
    detail::frozen::require(channels >= 1, "expected at least 1 channel, got ", channels);
    detail::frozen::require(!fixed || channels == Channels, "expected ", Index(Channels), " channels, got ", channels);
    resize(channels);
  }

  /// From a range for each quantity, of one value for each channel: std::vector, std::array, Eigen vectors and
  /// expressions of them, Eigen::Tensor of rank 1, arrays, of any scalar. An empty one is absent: 1 for weight and
  /// variance, 0 for bias and mean.
  ///
  /// The channel axis is that of dense Eigen objects and tensors in `apply`, negative from the back; of a matrix axis 0
  /// is the rows and axis 1 the columns. Throws std::invalid_argument for ranges of different sizes, for an epsilon
  /// that is negative or not finite, and, if the number of channels is dynamic, where all ranges are empty.
  template <class Weight, class Bias, class Mean, class RunningVar>
  FrozenBatchNorm(const Weight& weight, const Bias& bias, const Mean& mean, const RunningVar& variance, double epsilon,
                  int channel_axis = 1)
      : FrozenBatchNorm() {
    set_epsilon(epsilon);
    set_weight(weight);
    set_bias(bias);
    set_running_mean(mean);
    set_running_var(variance);
    set_channel_axis(channel_axis);
    detail::frozen::require(channels() != 0,
                            "expected a value for each channel in weight, bias, mean or variance, got "
                            "four empty ranges");
  }

  /// \name Setters
  /// Each takes one value for each channel, in any of the ranges that the constructor takes; an empty one makes the
  /// quantity absent. They throw std::invalid_argument, before they change anything, and return the object.
  ///@{

  /// The scale (gamma).
  template <class Values>
  FrozenBatchNorm& set_weight(const Values& values) {
    return set("weight", values, weight_, 1);
  }
  /// The shift (beta).
  template <class Values>
  FrozenBatchNorm& set_bias(const Values& values) {
    return set("bias", values, bias_, 0);
  }
  /// The mean that is subtracted.
  template <class Values>
  FrozenBatchNorm& set_running_mean(const Values& values) {
    return set("running_mean", values, mean_, 0);
  }
  /// The variance.
  template <class Values>
  FrozenBatchNorm& set_running_var(const Values& values) {
    return set("running_var", values, variance_, 1);
  }
  /// What is added to the variance before its square root; finite and at least 0.
  FrozenBatchNorm& set_epsilon(double epsilon) {
    detail::frozen::require(epsilon >= 0 && epsilon <= (std::numeric_limits<double>::max)(),
                            "expected a finite epsilon of at least 0, got ", epsilon);
    epsilon_ = epsilon;
    update();
    return *this;
  }
  /// The axis of the channels in dense Eigen objects and tensors, negative from the back; at first 1. Whether an x has
  /// such an axis is asserted by `apply`.
  FrozenBatchNorm& set_channel_axis(int axis) {
    channel_axis_ = axis;
    return *this;
  }
  /// What follows the normalization, and a residual if there is one: y = activation(bn(x) + r). At first none.
  FrozenBatchNorm& set_activation(Activation activation) {
    activation_ = activation;
    activates_ = activation != Activation::none;
    return *this;
  }
  ///@}

  /// The number of channels.
  Index channels() const noexcept { return fixed ? Index(Channels) : static_cast<Index>(mean_.size()); }
  /// What is added to the variance.
  double epsilon() const noexcept { return epsilon_; }
  /// The axis of the channels as it was given.
  int channel_axis() const noexcept { return channel_axis_; }
  /// What follows the normalization.
  Activation activation() const noexcept { return activation_; }

  /// \name Apply
  /// Writes the normalized x to y, which may be x itself but not overlap it otherwise.
  ///
  /// After y may come `residual(r)`, which is added before the activation: r is of the kind, shape and storage order of
  /// x, a pointer where x is one, and lies apart from y.
  ///
  /// Before f may come `mask(m)` too: y is 0 where m is 0 or false, whatever x holds there and after all else. m has a
  /// value for each sample, those along axis 0, or along the last axis where the channels are on axis 0; or for each
  /// position, in a tensor of x's shape and layout without the channels, or of outer * inner values for pointers. It
  /// may be an Eigen vector, a tensor, or a container with operator[] and size(). Another size is an eigen_assert.
  ///
  /// The last argument may be a function `f`, an activation most often, that takes an Eigen array expression and gives
  /// another: y = f(normalized x). Written for all numbers at once, as in `[](const auto& a) { return a.tanh(); }`, it
  /// is computed by vector instructions. It has to take its argument by const reference, and works number by number: it
  /// may be called once for all numbers, or once for each of some parts. What it is given are arrays with a row for
  /// each channel and a column for each position, save for dense Eigen objects, where it is given an array of the shape
  /// of y, once. So it may have a slope for each channel, in `a.colwise() * slopes`.
  ///@{

  /// One sample, channels() neighbouring numbers.
  void apply(const T* x, T* y) const noexcept {
    if (in_range_) {
      detail::frozen::normalize_samples(1, channels(), coefficients(), x, 0, y, 0);
    } else {
      normalize_sample_exactly(x, y);
    }
    if (activates_) finish_sample(y, Absent(), Identity());
  }

  /// One sample, and then a residual, or f, which is given a column of channels() numbers, or both.
  template <class Extra, class... F, std::enable_if_t<!is_index<Extra>::value, int> = 0>
  void apply(const T* x, T* y, Extra&& extra, F&&... f) const noexcept {
    with_mask([&](auto&... extras) { apply_sample(x, y, extras...); },
              [&](const auto& m) { clear_masked(y, 1, 1, 1, false, m); }, extra, f...);
  }

  /// A tensor of shape [outer, channels(), inner] whose last axis is contiguous: inner is 1 for channels-last data.
  void apply(const T* x, T* y, Index outer, Index inner) const noexcept {
    if (activates_) return apply_and_finish(x, y, outer, inner, Absent(), Identity());
    const Strides strides{channels() * inner, inner, 1};
    normalize(outer, inner, x, strides, y, strides);
  }

  /// The same, and then a residual, or f, or both.
  template <class Extra, class... F>
  void apply(const T* x, T* y, Index outer, Index inner, Extra&& extra, F&&... f) const noexcept {
    with_mask([&](auto&... extras) { apply_memory(x, y, outer, inner, extras...); },
              [&](const auto& m) { clear_masked(y, outer, inner, outer, false, m); }, extra, f...);
  }

  /// Dense Eigen objects that lie in memory, with any strides: Matrix, Array, Map, Ref, Block, or Eigen tensors of any
  /// rank. Of a matrix channel_axis() tells which axis is that of the channels, at first the columns, so that samples
  /// are rows; what is a vector at compile time is one sample. x and y have the same shape and storage order. A
  /// residual and f may follow.
  template <class X, class Y, class... Extras, std::enable_if_t<!takes_pointers<const X&, Y>::value, int> = 0>
  void apply(const X& x, Y&& y, Extras&&... extras) const noexcept {
    constexpr ArgumentKind kind = detail::frozen::check_arguments<T, X, Y>();
    using Kind = std::integral_constant<ArgumentKind, kind>;
    with_mask([&](auto&... others) { apply_to(Kind(), x, y, others...); },
              [&](const auto& m) { clear_masked(Kind(), y, m); }, extras...);
  }
  ///@}

  /// The factor of y = folded_scale() * x + folded_shift(), weight / sqrt(variance + epsilon), for those who fold it
  /// into the weights of a layer before or after.
  ///
  /// This form loses what `apply` keeps: where the mean is large beside the deviation, scale * x and shift are large
  /// numbers that cancel, and y is off by about |mean| / sqrt(variance) times 6e-8 for float.
  Vector folded_scale() const {
    return vector_of([this](Eigen::Index c) { return exact_scale_[c]; });
  }
  /// The summand of y = folded_scale() * x + folded_shift(), bias - mean * folded_scale(); see there for what it loses.
  Vector folded_shift() const {
    return vector_of([this](Eigen::Index c) { return Accumulator(bias_[c] - mean_[c] * exact_scale_[c]); });
  }

 private:
  friend struct detail::Folding;

  static constexpr bool fixed = Channels != Eigen::Dynamic;

  // Not aligned where it is part of the object: before C++17 `new` does not align objects for vector instructions.
  template <class S>
  using PerChannel = Eigen::Array<S, Channels, 1, fixed ? Eigen::DontAlign : Eigen::ColMajor>;

  // How many numbers f is given at once where it is up to us: 16 KiB of floats.
  static constexpr Index part_size = 4096;

  static Eigen::Index eigen_size(Index size) noexcept { return static_cast<Eigen::Index>(size); }

  // --- State.

  static void check_size(const char* name, Index expected, Index size) {
    detail::frozen::require(size == expected, "expected ", name, " of size ", expected, ", got ", size);
  }

  void resize(Index channels) {
    const Eigen::Index n = eigen_size(channels);
    weight_.setConstant(n, Accumulator(1));
    bias_.setConstant(n, Accumulator(0));
    variance_.setConstant(n, Accumulator(1));
    exact_scale_.resize(n);
    fast_mean_.resize(n);
    fast_scale_.resize(n);
    fast_shift_.resize(n);
    mean_.setConstant(n, Accumulator(0));  // the last: its size is the number of channels
    update();
  }

  template <class Values>
  FrozenBatchNorm& set(const char* name, const Values& values, PerChannel<Accumulator>& quantity, int absent) {
    detail::frozen::Range<Values>::read(name, values, [&](const auto* data, Index size) {
      if (size == 0) {
        quantity.setConstant(Accumulator(absent));
      } else {
        if (channels() == 0) resize(size);
        check_size(name, channels(), size);
        for (Index c = 0; c < size; ++c) quantity[eigen_size(c)] = detail::frozen::convert<Accumulator>(data[c]);
      }
    });
    update();
    return *this;
  }

  // The coefficients from the quantities.
  void update() {
    in_range_ = true;
    for (Eigen::Index c = 0; c < mean_.size(); ++c) {
      exact_scale_[c] = weight_[c] * detail::frozen::inverse_std(variance_[c], epsilon_);
      const auto rounded = detail::frozen::rounded_to<T>({mean_[c], exact_scale_[c], bias_[c]}, weight_[c]);
      fast_mean_[c] = rounded.coefficients.mean;
      fast_scale_[c] = rounded.coefficients.scale;
      fast_shift_[c] = rounded.coefficients.shift;
      in_range_ = in_range_ && rounded.in_range;
    }
  }

  template <class Value>
  Vector vector_of(const Value& value) const {
    Vector result(mean_.size());
    for (Eigen::Index c = 0; c < mean_.size(); ++c) {
      result[c] = detail::frozen::convert<typename Vector::Scalar>(value(c));
    }
    return result;
  }

  // --- From what people hold to pointers and strides.

  using Dense = std::integral_constant<ArgumentKind, ArgumentKind::dense>;
  using Tensor = std::integral_constant<ArgumentKind, ArgumentKind::tensor>;
  using Wrong = std::integral_constant<ArgumentKind, ArgumentKind::other>;  // a sentence has told of it

  // In place of a residual that is not there, and of an f.
  struct Absent {};
  struct Identity {
    template <class A>
    const A& operator()(const A& a) const {
      return a;
    }
  };

  template <class X>
  struct is_residual : std::false_type {};
  template <class R>
  struct is_residual<detail::Residual<R>> : std::true_type {};

  template <class X>
  struct is_mask : std::false_type {};
  template <class M>
  struct is_mask<detail::Mask<M>> : std::true_type {};
  // Whether a mask is the first or the second of some extras.
  template <class... Extras>
  struct has_mask : std::false_type {};
  template <class First>
  struct has_mask<First> : is_mask<First> {};
  template <class First, class Second, class... Rest>
  struct has_mask<First, Second, Rest...>
      : std::integral_constant<bool, is_mask<First>::value || is_mask<Second>::value> {};

  // Calls run with what follows y but for a mask, and then clear with that.
  template <class Run, class Clear, class... Extras,
            std::enable_if_t<!has_mask<std::remove_const_t<Extras>...>::value, int> = 0>
  static void with_mask(const Run& run, const Clear&, Extras&... extras) noexcept {
    run(extras...);
  }
  template <class Run, class Clear, class M, class... Extras>
  static void with_mask(const Run& run, const Clear& clear, const detail::Mask<M>& mask, Extras&... extras) noexcept {
    run(extras...);
    clear(mask.value);
  }
  template <class Run, class Clear, class R, class M, class... Extras>
  static void with_mask(const Run& run, const Clear& clear, const detail::Residual<R>& r, const detail::Mask<M>& mask,
                        Extras&... extras) noexcept {
    run(r, extras...);
    clear(mask.value);
  }

  void apply_sample(const T* x, T* y) const noexcept { apply(x, y); }
  template <class Extra, class... F>
  void apply_sample(const T* x, T* y, Extra& extra, F&... f) const noexcept {
    if (in_range_) {
      detail::frozen::normalize_samples(1, channels(), coefficients(), x, 0, y, 0);
    } else {
      normalize_sample_exactly(x, y);
    }
    with_extras([&](const auto& r, auto& g) { finish_sample(y, r, g); }, extra, f...);
  }

  // Whether a mask lets the k-th sample or position through.
  template <class M, std::enable_if_t<detail::frozen::argument_kind<M>::value == ArgumentKind::tensor, int> = 0>
  static bool lets_through(const M& m, Index k) noexcept {
    return static_cast<bool>(m.data()[k]);
  }
  template <class M, std::enable_if_t<detail::frozen::is_dense<M>::value, int> = 0>
  static bool lets_through(const M& m, Index k) noexcept {
    return static_cast<bool>(m.coeff(eigen_size(k)));
  }
  template <class M, std::enable_if_t<detail::frozen::argument_kind<M>::value == ArgumentKind::other, int> = 0>
  static bool lets_through(const M& m, Index k) noexcept {
    return static_cast<bool>(m[static_cast<std::size_t>(k)]);
  }

  // Of [outer, channels, inner] in memory, whose samples are as many outer steps each or, if `fast`, every so many
  // numbers of a row.
  template <class M>
  void clear_masked(T* y, Index outer, Index inner, Index samples, bool fast, const M& m) const noexcept {
    const Index positions = outer * inner, size = static_cast<Index>(m.size());
    eigen_assert((size == positions || size == samples) &&
                 "batchnorm: the mask has a value neither for each sample nor for each position");
    for (Index p = 0; p < positions; ++p) {
      if (lets_through(m, size == positions ? p : fast ? p % samples : p / (positions / samples))) continue;
      T* const first = y + p / inner * channels() * inner + p % inner;
      for (Index c = 0; c < channels(); ++c) first[c * inner] = T(0);
    }
  }
  template <class Y, class M>
  void clear_masked(Dense, Y& y, const M& m) const noexcept {
    using Plain = std::decay_t<Y>;
    const int axis = channel_axis_ < 0 ? channel_axis_ + 2 : channel_axis_;
    const bool vector = Plain::IsVectorAtCompileTime;
    const Index samples = vector ? 1 : axis == 0 ? y.cols() : y.rows();
    eigen_assert(static_cast<Index>(m.size()) == samples && "batchnorm: the mask has a value for each sample");
    for (Index s = 0; s < samples; ++s) {
      if (lets_through(m, s)) continue;
      for (Eigen::Index c = 0; c < eigen_size(channels()); ++c) {
        const Eigen::Index at = eigen_size(s);
        const bool channels_in_rows = vector ? y.cols() == 1 : axis == 0;
        y.coeffRef(channels_in_rows ? c : at, channels_in_rows ? at : c) = T(0);
      }
    }
  }
  template <class Y, class M>
  void clear_masked(Tensor, Y& y, const M& m) const noexcept {
    using Plain = std::decay_t<Y>;
    constexpr int rank = Plain::NumDimensions;
    constexpr bool row_major = static_cast<int>(Plain::Layout) == static_cast<int>(Eigen::RowMajor);
    const int axis = rank == 1 ? 0 : channel_axis_ < 0 ? channel_axis_ + rank : channel_axis_;
    Index before = 1, after = 1, samples = 1;
    for (int i = 0; i < rank; ++i) {
      const auto size = static_cast<Index>(y.dimension(static_cast<unsigned char>(i)));
      if (i < axis) before *= size;
      if (i > axis) after *= size;
      if (rank > 1 && i == (axis == 0 ? rank - 1 : 0)) samples = size;
    }
    clear_masked(y.data(), row_major ? before : after, row_major ? after : before, samples, (axis != 0) != row_major,
                 m);
  }
  template <class Y, class M>
  void clear_masked(Wrong, Y&, const M&) const noexcept {}

  // Calls run(r, f) with what follows y: a residual, f, or both.
  template <class Run, class R>
  static void with_extras(const Run& run, const detail::Residual<R>& r) noexcept {
    const Identity identity{};
    run(r.value, identity);
  }
  template <class Run, class R, class F>
  static void with_extras(const Run& run, const detail::Residual<R>& r, F& f) noexcept {
    run(r.value, f);
  }
  template <class Run, class F, std::enable_if_t<!is_residual<std::remove_const_t<F>>::value, int> = 0>
  static void with_extras(const Run& run, F& f) noexcept {
    run(Absent(), f);
  }

  // What follows the normalization of some numbers: the residual's, the activation, f.
  template <class Result, class Residuals, class F>
  void finish(Result& result, const Residuals& r, F&& f) const noexcept {
    result += r;
    finish(result, Absent(), f);
  }
  template <class Result, class F>
  void finish(Result& result, const Absent&, F&& f) const noexcept {
    if (activates_) {
      const T zero(0);
      if (activation_ == Activation::relu) {
        result = (result <= zero).select(zero, result);  // so that NaN stays
      } else {
        result = (result <= zero).select(result * detail::frozen::convert<T>(activation_.slope()), result);
      }
    }
    activate(result, f);
  }
  template <class Result>
  static void activate(Result&, const Identity&) noexcept {}
  template <class Result>
  static void activate(Result&, Identity&) noexcept {}
  template <class Result, class F>
  static void activate(Result& result, F&& f) noexcept {
    result = f(static_cast<const Result&>(result));
  }

  // A part of the residual that lies like a part of y.
  template <class Array>
  static Eigen::Map<const Array> part_of(const T* r, Eigen::Index rows, Eigen::Index cols) noexcept {
    return Eigen::Map<const Array>(r, rows, cols);
  }
  template <class Array>
  static Absent part_of(const Absent&, Eigen::Index, Eigen::Index) noexcept {
    return {};
  }
  static const T* at(const T* r, Index offset) noexcept { return r + offset; }
  static Absent at(const Absent&, Index) noexcept { return {}; }

  template <class R, class F>
  void finish_sample(T* y, const R& r, F&& f) const noexcept {
    using Column = Eigen::Array<T, Channels, 1>;
    const Eigen::Index n = eigen_size(channels());
    Eigen::Map<Column> result(y, n);
    finish(result, part_of<Column>(r, n, 1), f);
  }

  template <class R, class F>
  void apply_and_finish(const T* x, T* y, Index outer, Index inner, const R& r, F&& f) const noexcept {
    using Samples = Eigen::Array<T, Channels, Eigen::Dynamic, Channels == 1 ? Eigen::RowMajor : Eigen::ColMajor>;
    using Rows = Eigen::Array<T, Channels, Eigen::Dynamic, Eigen::RowMajor>;
    const Index sample = channels() * inner;
    const Strides strides{sample, inner, 1};
    const Eigen::Index n = eigen_size(channels());
    // Part by part, so that what follows finds in the cache what was just computed.
    const Index step = inner == 1 && sample != 0 ? 1 + part_size / sample : 1;
    for (Index o = 0; o < outer; o += step) {
      const Index count = step < outer - o ? step : outer - o, offset = o * sample;
      normalize(count, inner, x + offset, strides, y + offset, strides);
      if (inner == 1) {
        Eigen::Map<Samples> result(y + offset, n, eigen_size(count));
        finish(result, part_of<Samples>(at(r, offset), n, eigen_size(count)), f);
      } else {
        Eigen::Map<Rows> result(y + offset, n, eigen_size(inner));
        finish(result, part_of<Rows>(at(r, offset), n, eigen_size(inner)), f);
      }
    }
  }

  template <class... Arguments>
  static void apply_to(Wrong, Arguments&...) noexcept {}

  // An array that refers to a dense object's memory.
  template <class D>
  static auto array_of(D& dense) noexcept {
    return dense.matrix().array();
  }
  static Absent array_of(const Absent&) noexcept { return {}; }

  template <class X, class Y, class Extra, class... F>
  void apply_to(Dense, const X& x, Y& y, Extra& extra, F&... f) const noexcept {
    normalize_dense(x, y);
    with_extras(
        [&](const auto& r, auto& g) {
          auto result = array_of(y);
          finish(result, array_of(r), g);
        },
        extra, f...);
  }

  template <class X, class Y>
  void apply_to(Dense, const X& x, Y& y) const noexcept {
    normalize_dense(x, y);
    if (!activates_) return;
    auto result = array_of(y);
    finish(result, Absent(), Identity());
  }

  template <class X, class Y>
  void normalize_dense(const X& x, Y& y) const noexcept {
    eigen_assert(x.rows() == y.rows() && x.cols() == y.cols() && "batchnorm: x and y have different shapes");
    if (X::IsVectorAtCompileTime) {
      eigen_assert(x.size() == eigen_size(channels()) && "batchnorm: the vector is no sample of so many channels");
      return normalize(1, 1, x.data(), {0, Index(x.innerStride()), 1}, y.data(), {0, Index(y.innerStride()), 1});
    }
    const int axis = channel_axis_ < 0 ? channel_axis_ + 2 : channel_axis_;
    eigen_assert((axis == 0 || axis == 1) && "batchnorm: a matrix has no such channel axis");
    eigen_assert((axis == 0 ? x.rows() : x.cols()) == eigen_size(channels()) &&
                 "batchnorm: the channel axis of the matrix has another number of channels");
    const Index positions = axis == 0 ? x.cols() : x.rows();
    if ((axis == 0) != bool(X::IsRowMajor)) {  // the channels of a sample are neighbours
      normalize(positions, 1, x.data(), {Index(x.outerStride()), Index(x.innerStride()), 1}, y.data(),
                {Index(y.outerStride()), Index(y.innerStride()), 1});
    } else {
      normalize(1, positions, x.data(), {0, Index(x.outerStride()), Index(x.innerStride())}, y.data(),
                {0, Index(y.outerStride()), Index(y.innerStride())});
    }
  }

  template <class X, class Y, class... Extras>
  void apply_to(Tensor, const X& x, Y& y, Extras&... extras) const noexcept {
    constexpr int rank = X::NumDimensions;
    const int axis = rank == 1 ? 0 : channel_axis_ < 0 ? channel_axis_ + rank : channel_axis_;
    eigen_assert(axis >= 0 && axis < rank && "batchnorm: a tensor of this rank has no such channel axis");
    Index before = 1, after = 1;
    for (int i = 0; i < rank; ++i) {
      const auto k = static_cast<unsigned char>(i);  // becomes any type of integers without a warning
      eigen_assert(x.dimension(k) == y.dimension(k) && "batchnorm: x and y have different shapes");
      eigen_assert((i != axis || Index(x.dimension(k)) == channels()) &&
                   "batchnorm: the channel axis of the tensor has another number of channels");
      if (i < axis) before *= Index(x.dimension(k));
      if (i > axis) after *= Index(x.dimension(k));
    }
    constexpr bool row_major = static_cast<int>(X::Layout) == static_cast<int>(Eigen::RowMajor);
    apply_memory(x.data(), y.data(), row_major ? before : after, row_major ? after : before, extras...);
  }

  void apply_memory(const T* x, T* y, Index outer, Index inner) const noexcept { apply(x, y, outer, inner); }
  template <class Extra, class... F>
  void apply_memory(const T* x, T* y, Index outer, Index inner, Extra& extra, F&... f) const noexcept {
    with_extras([&](const auto& r, auto& g) { apply_and_finish(x, y, outer, inner, memory_of(r), g); }, extra, f...);
  }
  template <class R>
  static const T* memory_of(const R& r) noexcept {
    return r.data();
  }
  static const T* memory_of(const T* const& r) noexcept { return r; }
  static const T* memory_of(T* const& r) noexcept { return r; }
  static Absent memory_of(const Absent&) noexcept { return {}; }

  // --- The loops. Strides are between numbers.

  detail::frozen::Coefficients<T> coefficients() const noexcept {
    return {fast_mean_.data(), fast_scale_.data(), fast_shift_.data()};
  }

  // Apart, so that the path of every single sample sets no strides up.
  BATCHNORM_NOINLINE void normalize_sample_exactly(const T* x, T* y) const noexcept {
    normalize_exactly(1, 1, x, {0, 1, 1}, y, {0, 1, 1});
  }

  void normalize(Index outer, Index inner, const T* x, const Strides& x_strides, T* y,
                 const Strides& y_strides) const noexcept {
    if (!in_range_) {
      normalize_exactly(outer, inner, x, x_strides, y, y_strides);
    } else if (inner == 1 && x_strides.channel == 1 && y_strides.channel == 1) {
      detail::frozen::normalize_samples(outer, channels(), coefficients(), x, x_strides.outer, y, y_strides.outer);
    } else if (x_strides.inner == 1 && y_strides.inner == 1) {
      detail::frozen::normalize_rows(outer, channels(), inner, coefficients(), x, x_strides, y, y_strides);
    } else {
      normalize_apart(outer, inner, x, x_strides, y, y_strides);
    }
  }

  // Numbers that are no neighbours in memory.
  BATCHNORM_NOINLINE void normalize_apart(Index outer, Index inner, const T* x, const Strides& x_strides, T* y,
                                          const Strides& y_strides) const noexcept {
    detail::frozen::transform_each(
        outer, channels(), inner, x, x_strides, y, y_strides, [this](Index c, const T& value) {
          const Eigen::Index i = eigen_size(c);
          return detail::frozen::normalized(value, fast_mean_[i], fast_scale_[i], fast_shift_[i]);
        });
  }

  // In the type of the algebra, where T has not the range, or not the digits.
  BATCHNORM_NOINLINE void normalize_exactly(Index outer, Index inner, const T* x, const Strides& x_strides, T* y,
                                            const Strides& y_strides) const noexcept {
    using detail::frozen::convert;
    detail::frozen::transform_each(
        outer, channels(), inner, x, x_strides, y, y_strides, [this](Index c, const T& value) {
          const Eigen::Index i = eigen_size(c);
          return convert<T>(
              detail::frozen::normalized(convert<Accumulator>(value), mean_[i], exact_scale_[i], bias_[i]));
        });
  }

  // What single samples read comes first.
  PerChannel<T> fast_mean_{}, fast_scale_{}, fast_shift_{};
  bool in_range_ = true;  // whether those are good for every x
  bool activates_ = false;
  int channel_axis_ = 1;
  Activation activation_{};
  double epsilon_ = 0;
  PerChannel<Accumulator> weight_{}, bias_{}, mean_{}, variance_{}, exact_scale_{};
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_FROZEN_BATCH_NORM_HPP
