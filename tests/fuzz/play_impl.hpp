// Plays bytes to layers of one type, for the source file of each: to tensors of rank 3, or to matrices whose lines lie
// apart, with an activation and a residual or without.

#ifndef BATCHNORM_TESTS_FUZZ_PLAY_IMPL_HPP
#define BATCHNORM_TESTS_FUZZ_PLAY_IMPL_HPP

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../exactness/exact.hpp"
#include "../fused_kernels.hpp"
#include "play.hpp"

namespace fuzz {

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::output;
using batchnorm::residual;
using batchnorm::residual_grad;
using batchnorm::SingleValue;
using Index = Eigen::Index;
using Shape = std::array<Index, 3>;

template <class T>
inline constexpr bool is_16_bit = sizeof(T) == 2;

// Eigen's 16-bit types convert to and from float alone.
template <class T>
T from_double(double value) {
  if constexpr (is_16_bit<T>) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
double to_double(const T& value) {
  if constexpr (is_16_bit<T>) {
    return static_cast<double>(static_cast<float>(value));
  } else {
    return static_cast<double>(value);
  }
}

// The next number away from 0, of one that is not 0.
template <class T>
T next_after(T value) {
  if constexpr (is_16_bit<T>) {
    const auto bits = Eigen::numext::bit_cast<std::uint16_t>(value);
    return Eigen::numext::bit_cast<T>(static_cast<std::uint16_t>(bits + 1));
  } else {
    return std::nextafter(value, value < 0 ? std::numeric_limits<T>::lowest() : std::numeric_limits<T>::max());
  }
}

// SplitMix64 (Steele, Lea and Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t bits() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  double symmetric() { return 2 * uniform() - 1; }

 private:
  std::uint64_t state_;
};

// One kind of channel. Its values stay within what the library promises to be exact for: squares that a double holds.
template <class T>
struct Recipe {
  double mean, deviation;
  int pattern, odd_one;

  explicit Recipe(Bytes& bytes) {
    constexpr int range = std::is_same_v<T, Eigen::half> ? 3 : std::is_same_v<T, double> ? 120 : 30;
    const std::uint8_t sign = bytes.next();
    mean = sign % 3 == 0 ? 0 : (sign % 3 == 1 ? 1 : -1) * std::pow(10, bytes.next() % (2 * range) - range);
    const int digits = bytes.next() % 40 - 25;  // of the deviation, against the mean
    deviation = mean == 0 ? std::pow(10, bytes.next() % (2 * range) - range) : std::abs(mean) * std::pow(10, digits);
    deviation = std::clamp(deviation, std::pow(10, -range), std::pow(10, range));
    pattern = bytes.next() % 12;
    odd_one = bytes.next();
  }

  T value(Random& random, Index k, Index n) const {
    const bool odd = k == odd_one % n;
    const T constant = from_double<T>(mean == 0 ? deviation : mean);
    switch (pattern) {
      case 0:
        return constant;
      case 1:
        return odd ? next_after(constant) : constant;
      case 2:
        return random.uniform() < 0.5 ? next_after(constant) : constant;
      case 3:
        return from_double<T>(odd ? mean + 1e3 * deviation : mean + deviation * random.symmetric());
      case 4:
        return from_double<T>(k % 2 == 0 ? mean + deviation : mean - deviation);
      case 5:
        return from_double<T>(mean + deviation * static_cast<double>(k) / static_cast<double>(n));
      case 6:
        return odd ? (odd_one < 64    ? std::numeric_limits<T>::quiet_NaN()
                      : odd_one < 128 ? std::numeric_limits<T>::infinity()
                      : odd_one < 192 ? -std::numeric_limits<T>::infinity()
                                      : from_double<T>(mean))
                   : from_double<T>(mean + deviation * random.symmetric());
      case 7:
        return from_double<T>(k % 3 == 0 ? -0.0 : 0.0);
      case 8:
        return from_double<T>(mean + deviation * std::exp(8 * random.symmetric()));
      default:
        return from_double<T>(mean + deviation * random.symmetric());
    }
  }
};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

[[noreturn]] inline void fail(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

// One type of device for one thread and several, so that kernels and passes are compiled once.
inline Eigen::ThreadPoolDevice& device_of(bool threads) {
  static Eigen::ThreadPool one(1), three(3);
  static Eigen::ThreadPoolDevice alone(&one, 1), together(&three, 3);
  return threads ? together : alone;
}

// What people hold: tensors of rank 3, or matrices, as shapes whose last extent is 1.
template <class T, int Layout>
struct Tensors {
  static constexpr int rank = 3;
  using Plain = Eigen::Tensor<T, 3, Layout>;
  using Map = Eigen::TensorMap<Plain>;
  static Eigen::Index line(const Shape& shape) { return shape[0] * shape[1] * shape[2]; }
  static Map map(T* data, const Shape& shape, Eigen::Index) { return Map(data, shape[0], shape[1], shape[2]); }
};
template <class T, int Layout>
struct Matrices {
  static constexpr int rank = 2;
  using Plain = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Layout>;
  using Map = Eigen::Map<Plain, Eigen::Unaligned, Eigen::OuterStride<>>;
  static Eigen::Index line(const Shape& shape) { return Layout == Eigen::RowMajor ? shape[1] : shape[0]; }
  static Map map(T* data, const Shape& shape, Eigen::Index stride) {
    return Map(data, shape[0], shape[1], Eigen::OuterStride<>(stride));
  }
};

template <class T, int Layout, template <class, int> class Holders>
class Player {
  using Holder = Holders<T, Layout>;
  static constexpr int rank = Holder::rank;
  using Layer = BatchNorm<T, rank>;
  using Param = typename Layer::Param;
  using Tensor = typename Holder::Plain;
  using Map = typename Holder::Map;
  using Values = std::vector<T>;

  // What the exact results depend on, as it was before a call.
  struct State {
    std::vector<Param> weight, bias, running_mean, running_var, weight_grad, bias_grad;
    std::int64_t batches;
    bool operator==(const State& other) const {
      return same_bits(weight, other.weight) && same_bits(bias, other.bias) &&
             same_bits(running_mean, other.running_mean) && same_bits(running_var, other.running_var) &&
             same_bits(weight_grad, other.weight_grad) && same_bits(bias_grad, other.bias_grad) &&
             batches == other.batches;
    }
  };

  // Memory that begins so many elements past the start of an allocation, for a tensor, or for a matrix whose lines lie
  // some elements apart, which stay as they are.
  class Buffer {
   public:
    Buffer(const Values& values, const Shape& shape, int offset)
        : line_(Holder::line(shape)),
          lines_(line_ == 0 ? 0 : static_cast<Index>(values.size()) / line_),
          stride_(line_ + (rank == 2 ? offset % 5 : 0)),
          offset_(offset),
          shape_(shape),
          memory_(static_cast<std::size_t>(offset + lines_ * stride_), between()) {
      for (Index i = 0; i < lines_; ++i) std::copy_n(values.begin() + i * line_, line_, memory_.begin() + start(i));
    }
    Map map() { return Holder::map(memory_.data() + offset_, shape_, stride_); }
    Values values() const {
      Values result;
      Index free = 0;
      for (Index i = 0; i < lines_; ++i) {
        for (; free < start(i); ++free) check_between(free);
        result.insert(result.end(), memory_.begin() + free, memory_.begin() + free + line_);
        free += line_;
      }
      for (; free < static_cast<Index>(memory_.size()); ++free) check_between(free);
      return result;
    }

   private:
    static T between() { return from_double<T>(77); }
    Index start(Index line) const { return offset_ + line * stride_; }
    void check_between(Index i) const {
      if (!(memory_[static_cast<std::size_t>(i)] == between())) fail("what lies between the lines was written");
    }

    Index line_, lines_, stride_;
    int offset_;
    Shape shape_;
    Values memory_;
  };

  // A forward pass that a backward may go back through.
  struct Pass {
    Shape shape;
    Values x, y;
    std::vector<Param> weight, bias, running_mean, running_var;
    bool batch_statistics, has_residual;
    typename Layer::SavedStatistics saved;
  };

 public:
  Player(Bytes& bytes, const Kind& kind)
      : bytes_(bytes),
        axis_(bytes.next() % rank),
        channels_(std::max<Index>(1, bytes.length())),
        tags_(kind.extras != Extras::none),
        has_activation_(kind.extras == Extras::relu || kind.extras == Extras::leaky_relu),
        slope_(slope_of(kind.extras)),
        bn_(layer()) {
    for (int i = 1 + bytes.next() % 4; i > 0; --i) recipes_.emplace_back(bytes);
    // In every other case: no backward with the x of its forward may be refused, whatever x holds and on any threads.
    bn_.check_backward(channels_ % 2 == 0);
    new_input();
  }

  void play() {
    for (int call = 0; call < 12 && !bytes_.empty(); ++call) {
      const std::uint8_t what = bytes_.next();
      switch (what % 16) {
        case 0:
        case 1:
        case 2:
        case 3:
          forward(what / 16, tags_ && what % 2 != 0);
          break;
        case 4:
          backward(what / 16);
          break;
        case 5:
          tags_ ? backward_with_output(what / 16) : backward(what / 16);
          break;
        case 6:
          tags_&& what % 32 < 16 ? backward_from_output(what / 32) : backward(what / 16);
          break;
        case 7:
          infer(what / 16, tags_ && what % 32 < 16);
          break;
        case 8:
          bn_.train(what / 16 % 3 != 0);
          break;
        case 9:
          set_parameters();
          break;
        case 10:
          reset(what / 16);
          break;
        case 11:
          new_input();
          break;
        case 12:
          copy();
          break;
        case 13:
          threads_ = !threads_;
          break;
        case 14:
          misalignment_ = what / 16;
          break;
        default:
          wrong_call(what / 16);
      }
    }
  }

 private:
  // --- What is given to the layer.

  BatchNormOptions options() {
    static constexpr double epsilons[] = {1e-5, 0, 1e-3, 1, 1e-12};
    static constexpr double momenta[] = {0.1, 0, 1, 1e-3, 0.5, -1};
    static constexpr SingleValue policies[] = {SingleValue::error, SingleValue::skip_update, SingleValue::allow,
                                               SingleValue::use_running};
    BatchNormOptions result(channels_);
    const double momentum = bytes_.one_of(momenta);
    result.epsilon(bytes_.one_of(epsilons))
        .momentum(momentum < 0 ? std::optional<double>() : momentum)
        .scale(bytes_.next() % 4 != 0)
        .shift(bytes_.next() % 4 != 0)
        .track_running_stats(bytes_.next() % 4 != 0)
        .running_variance(bytes_.flag() ? batchnorm::Variance::unbiased : batchnorm::Variance::biased)
        .channel_axis(bytes_.flag() ? axis_ : axis_ - rank)
        .single_value(bytes_.one_of(policies));
    if (!result.track_running_stats() && result.single_value() == SingleValue::use_running) {
      result.single_value(SingleValue::skip_update);
    }
    return result;
  }

  double slope_of(Extras extras) {
    static constexpr double slopes[] = {0.01, 0.125, 1, 2, 0.3};
    return extras == Extras::relu ? 0 : extras == Extras::leaky_relu ? bytes_.one_of(slopes) : 1;
  }

  Layer layer() {
    const BatchNormOptions plain = options();
    if (!has_activation_) return Layer(plain);
    return Layer(plain.activation(slope_ > 0 ? Activation::leaky_relu(slope_) : Activation(Activation::relu)));
  }

  void new_input() {
    constexpr Index most = 40000;
    Index first = bytes_.length(), second = rank == 2 ? 1 : bytes_.length();
    while (first * second * channels_ > most) (first > second ? first : second) /= 2;
    shape_ = axis_ == 0   ? Shape{channels_, first, second}
             : axis_ == 1 ? Shape{first, channels_, second}
                          : Shape{first, second, channels_};
    per_channel_ = first * second;
    Random random(bytes_.next());
    x_ = Values(size());
    dy_ = Values(size());
    r_ = Values(size());
    const double dy_mean = bytes_.next() % 3 == 0 ? 1e4 : 0;
    for (Index c = 0; c < channels_; ++c) {
      const Recipe<T>& recipe = recipes_[static_cast<std::size_t>(c) % recipes_.size()];
      for (Index k = 0; k < per_channel_; ++k) {
        x_[at(c, k)] = recipe.value(random, k, per_channel_);
        dy_[at(c, k)] = from_double<T>(dy_mean + random.symmetric());
        // A residual that leaves many a sum at 0 or next to it where the layer is its own identity.
        if (tags_) r_[at(c, k)] = from_double<T>(k % 3 == 0 ? -to_double(x_[at(c, k)]) : 2 * random.symmetric());
      }
    }
  }

  void set_parameters() {
    static constexpr double values[] = {1, -1.5, 0, 0.3, 1e-4, 1e4, -1};
    static constexpr double variances[] = {1, 0.25, 1e8, 1e-6, 0, 30, -1};
    const std::uint8_t first = bytes_.next();
    const auto fill = [first](auto& vector, const double(&from)[7], std::size_t step) {
      for (Index c = 0; c < vector.size(); ++c) {
        vector(c) = static_cast<Param>(from[(first + static_cast<std::size_t>(c) * step) % 7]);
      }
    };
    fill(bn_.weight(), values, 1);
    fill(bn_.bias(), values, 2);
    fill(bn_.running_mean(), values, 3);
    fill(bn_.running_var(), variances, 4);
  }

  // --- Calls.

  void forward(int how, bool with_residual) {
    const State before = state();
    const bool batch = uses_batch(bn_.is_training());
    if (refused(bn_.is_training())) {
      return expect_refusal([&] { bn_.forward(device_of(false), Buffer(x_, shape_, 0).map()); }, before);
    }
    Buffer x(x_, shape_, offset(0)), r(r_, shape_, offset(3));
    const Values y =
        with_residual
            ? write(how, x, &r,
                    [&](const auto& device, auto&&... xy) { return bn_.forward(device, xy..., residual(r.map())); })
            : write(how, x, nullptr, [&](const auto& device, auto&&... xy) { return bn_.forward(device, xy...); });
    passes_.push_back({shape_, x_, y, before.weight, before.bias, before.running_mean, before.running_var, batch,
                       with_residual, bn_.saved_statistics()});
    const bool tracked = bn_.is_training() && bn_.options().track_running_stats() && per_channel_ != 0 &&
                         (per_channel_ != 1 || bn_.options().single_value() == SingleValue::allow);
    if (bn_.num_batches_tracked() != before.batches + (tracked ? 1 : 0)) fail("num_batches_tracked is wrong");
    check_forward(before, y, batch, tracked, with_residual);
  }

  void infer(int how, bool with_residual) {
    const State before = state();
    const Layer& bn = bn_;
    if (refused(false)) return expect_refusal([&] { bn.infer(device_of(false), Buffer(x_, shape_, 0).map()); }, before);
    Buffer x(x_, shape_, offset(0)), r(r_, shape_, offset(3));
    const Values y =
        with_residual
            ? write(how, x, &r,
                    [&](const auto& device, auto&&... xy) { return bn.infer(device, xy..., residual(r.map())); })
            : write(how, x, nullptr, [&](const auto& device, auto&&... xy) { return bn.infer(device, xy...); });
    if (!(state() == before)) fail("infer changed the layer");
    check_forward(before, y, uses_batch(false), false, with_residual);
  }

  void backward(int how) {
    const State before = state();
    if (passes_.empty()) {
      return expect_refusal(
          [&] { bn_.backward(device_of(false), Buffer(x_, shape_, 0).map(), Buffer(dy_, shape_, 0).map()); }, before);
    }
    const bool last = how % 2 == 0;
    const Pass& pass = last ? passes_.back() : passes_[passes_.size() / 2];
    // With a residual x alone does not tell what was above 0, which matters unless the slope is 1 there too.
    if (pass.shape != shape_ || (pass.has_residual && slope_ != 1)) {
      return expect_refusal(
          [&] {
            bn_.backward(device_of(false), Buffer(x_, shape_, 0).map(), Buffer(dy_, shape_, 0).map(), pass.saved);
          },
          before);
    }
    Buffer x(pass.x, shape_, offset(0)), dy(dy_, shape_, offset(1));
    const Values dx = write(how / 2, x, &dy, [&](const auto& device, auto&& x_map, auto&&... out) {
      // Those of the last pass are the layer's own.
      if (last) return bn_.backward(device, x_map, dy.map(), out...);
      return bn_.backward(device, x_map, dy.map(), out..., pass.saved);
    });
    check_backward(before, pass, dx);
  }

  // The gradients of x and of the residual, by the output. Either may go over dy, and that of x over x.
  void backward_with_output(int how) {
    const State before = state();
    if (passes_.empty()) return backward(how);
    const bool last = how % 2 == 0;
    const Pass& pass = last ? passes_.back() : passes_[passes_.size() / 2];
    if (pass.shape != shape_) return backward(how);
    const Eigen::ThreadPoolDevice& device = device_of(threads_);
    const Values nothing(size(), std::numeric_limits<T>::quiet_NaN());
    Buffer x(pass.x, shape_, offset(0)), dy(dy_, shape_, offset(1)), y(pass.y, shape_, offset(3)),
        apart(nothing, shape_, offset(2)), dr_apart(nothing, shape_, offset(4));
    Values dx, dr;
    if (how / 2 % 4 == 0) {
      const auto both = last ? bn_.backward(device, x.map(), dy.map(), output(y.map()))
                             : bn_.backward(device, x.map(), dy.map(), pass.saved, output(y.map()));
      dx.assign(both.first.data(), both.first.data() + both.first.size());
      dr.assign(both.second.data(), both.second.data() + both.second.size());
    } else {
      const int places = how / 2 % 4;
      Buffer& to = places == 1 ? apart : places == 2 ? x : dy;
      Buffer& dr_to = places == 2 ? dy : dr_apart;
      if (last) {
        bn_.backward(device, x.map(), dy.map(), to.map(), output(y.map()), residual_grad(dr_to.map()));
      } else {
        bn_.backward(device, x.map(), dy.map(), to.map(), pass.saved, residual_grad(dr_to.map()), output(y.map()));
      }
      dx = to.values();
      dr = dr_to.values();
    }
    if (!same_bits(y.values(), pass.y)) fail("backward changed the output");
    for (std::size_t i = 0; i < size(); ++i) {
      if (!(dr[i] == from_double<T>(passed(pass, i))))
        fail("the residual's gradient is not what was let through of dy");
    }
    check_backward(before, pass, dx);
  }

  // The gradient by the output alone, where the activation can be inverted.
  void backward_from_output(int how) {
    const State before = state();
    if (passes_.empty() || passes_.back().shape != shape_ || size() == 0) return;
    const Pass& pass = passes_.back();
    const auto recoverable = [&](Index c) {
      const double weight = or_else(pass.weight, c, 1), bias = or_else(pass.bias, c, 0);
      return weight != 0 && std::isfinite(weight) && std::abs(bias) <= 4096 * std::abs(weight);
    };
    bool may = has_activation_ && slope_ > 0 && !pass.has_residual;
    for (Index c = 0; c < channels_; ++c) may = may && recoverable(c);
    if (!may) {
      return expect_refusal(
          [&] {
            bn_.backward_from_output(device_of(false), Buffer(pass.y, shape_, 0).map(), Buffer(dy_, shape_, 0).map());
          },
          before);
    }
    Buffer y(pass.y, shape_, offset(0)), dy(dy_, shape_, offset(1));
    const Values dx = write(how, y, &dy, [&](const auto& device, auto&& y_map, auto&&... out) {
      return bn_.backward_from_output(device, y_map, dy.map(), out...);
    });
    check_backward_from_output(before, pass, dx);
  }

  void reset(int what) {
    if (what % 3 == 0) bn_.zero_grad();
    if (what % 3 == 1) bn_.reset_running_stats();
    if (what % 3 == 2) bn_.reset_parameters();
  }

  void copy() {
    Layer other = bn_;
    bn_ = other;
    other.reset_parameters();
    if (other.weight().size() > 0) other.weight()(0) = static_cast<Param>(99);
  }

  void wrong_call(int what) {
    const State before = state();
    Shape shape = shape_;
    ++shape[static_cast<std::size_t>(what % rank)];
    const auto wrong_size = static_cast<std::size_t>(shape[0] * shape[1] * shape[2]);
    Buffer x(x_, shape_, 0), wrong(Values(wrong_size, from_double<T>(0)), shape, 0);
    expect_refusal([&] { bn_.forward(device_of(false), x.map(), wrong.map()); }, before);
    expect_refusal([&] { bn_.backward(device_of(false), x.map(), wrong.map()); }, before);
    if (what % rank == axis_) expect_refusal([&] { bn_.forward(device_of(false), wrong.map()); }, before);
    if (tags_) expect_refusal([&] { bn_.forward(device_of(false), x.map(), residual(wrong.map())); }, before);
  }

  // --- How they are made.

  std::size_t size() const { return static_cast<std::size_t>(shape_[0] * shape_[1] * shape_[2]); }
  int offset(int tensor) const { return misalignment_ * (2 * tensor + 1) % 16; }

  // The place of the k-th value of a channel, by the definition of the layout.
  std::size_t at(Index channel, Index k) const {
    const std::size_t axis = static_cast<std::size_t>(axis_), one = axis == 0 ? 1 : 0, other = axis == 2 ? 1 : 2;
    Shape index{};
    index[axis] = channel;
    index[one] = k / shape_[other];
    index[other] = k % shape_[other];
    return static_cast<std::size_t>(Layout == Eigen::RowMajor
                                        ? (index[0] * shape_[1] + index[1]) * shape_[2] + index[2]
                                        : (index[2] * shape_[1] + index[1]) * shape_[0] + index[0]);
  }

  // call(device, x) returns a tensor; call(device, x, output) writes into a map apart from x, over x, or over another
  // operand, which is dy or the residual.
  template <class Call>
  Values write(int how, Buffer& x, Buffer* other, const Call& call) {
    const Eigen::ThreadPoolDevice& device = device_of(threads_);
    if (how % 3 == 0) {
      const Tensor result = call(device, x.map());
      return Values(result.data(), result.data() + result.size());
    }
    Buffer apart(Values(size(), std::numeric_limits<T>::quiet_NaN()), shape_, offset(2));
    Buffer& to = how % 3 == 1 ? x : how % 2 != 0 && other != nullptr ? *other : apart;
    call(device, x.map(), to.map());
    return to.values();
  }

  State state() const {
    const auto values = [](const auto& from) { return std::vector<Param>(from.data(), from.data() + from.size()); };
    return {values(bn_.weight()),      values(bn_.bias()),      values(bn_.running_mean()), values(bn_.running_var()),
            values(bn_.weight_grad()), values(bn_.bias_grad()), bn_.num_batches_tracked()};
  }

  // Whether a forward must throw.
  bool refused(bool training) const {
    return per_channel_ == 1 && (training || !bn_.options().track_running_stats()) &&
           bn_.options().single_value() == SingleValue::error;
  }
  bool uses_batch(bool training) const {
    if (!training && bn_.options().track_running_stats()) return false;
    return per_channel_ != 1 || bn_.options().single_value() != SingleValue::use_running;
  }

  template <class Call>
  void expect_refusal(const Call& call, const State& before) {
    try {
      call();
    } catch (const std::logic_error&) {  // invalid_argument is one too
      if (!(state() == before)) fail("a call that threw changed the layer");
      return;
    }
    fail("a call that must throw did not");
  }

  // --- Against the exact results.

  static double or_else(const std::vector<Param>& values, Index c, double otherwise) {
    return values.empty() ? otherwise : static_cast<double>(values[static_cast<std::size_t>(c)]);
  }

  // What the activation of a pass lets through of an element of dy: all where the stored y is above 0, or NaN.
  double passed(const Pass& pass, std::size_t i) const {
    const double dy = to_double(dy_[i]);
    if (!has_activation_ || !(to_double(pass.y[i]) <= 0)) return dy;
    return slope_ > 0 ? slope_ * dy : 0;
  }

  exact::Channel channel(Index c, const Values& x, const State& before, const Pass* pass) const {
    exact::Channel result;
    for (Index k = 0; k < per_channel_; ++k) {
      result.x.push_back(to_double(x[at(c, k)]));
      result.dy.push_back(pass ? passed(*pass, at(c, k)) : to_double(dy_[at(c, k)]));
    }
    result.weight = or_else(before.weight, c, 1);
    result.bias = or_else(before.bias, c, 0);
    result.running_mean = or_else(pass ? pass->running_mean : before.running_mean, c, 0);
    result.running_var = or_else(pass ? pass->running_var : before.running_var, c, 1);
    result.epsilon = bn_.options().epsilon();
    result.momentum = bn_.options().momentum().value_or(1 / static_cast<double>(before.batches + 1));
    result.unbiased = bn_.options().running_variance() == batchnorm::Variance::unbiased;
    return result;
  }

  // So many channels as the exact solution takes little time for, spread over all.
  template <class Check>
  void for_some_channels(const Check& check) const {
    constexpr Index most_values = 1000;
    const Index count = per_channel_ == 0 ? 0 : std::min(channels_, std::max<Index>(1, most_values / per_channel_));
    for (Index i = 0; i < count; ++i) check(count == 1 ? channels_ / 2 : i * (channels_ - 1) / (count - 1));
  }

  static bool finite(const exact::Channel& channel) {
    const auto all = [](const std::vector<double>& values) {
      return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
    };
    return all(channel.x) && all(channel.dy) && std::isfinite(channel.running_mean) &&
           std::isfinite(channel.running_var) && std::isfinite(channel.weight) && std::isfinite(channel.bias);
  }

  // Fails unless a parameter or statistic is exact but for the promise of its type times the scale. Results beyond the
  // type's range, and those that round to its denormal numbers, are left out.
  void compare(const char* what, Index c, Index k, Param found, long double exact, long double scale) const {
    constexpr auto most = static_cast<long double>(std::numeric_limits<Param>::max());
    constexpr auto least = static_cast<long double>(std::numeric_limits<Param>::denorm_min());
    const long double promise = std::is_same_v<Param, float> ? 1e-6L : 1e-13L;
    if (!(scale < most / 4)) return;
    check_error(what, c, k, static_cast<double>(found), exact, scale, promise * scale + 4 * least);
  }

  // The same for an element of y or dx: of a 16-bit type it is the exact value rounded, but for what the computation
  // may lose where that cancels.
  void compare_element(const char* what, Index c, Index k, const T& found, long double exact, long double scale) const {
    if constexpr (is_16_bit<T>) {
      const bool is_half = std::is_same_v<T, Eigen::half>;
      int exponent;
      std::frexp(exact, &exponent);
      const long double ulp = std::ldexp(1.0L, std::max(exponent - (is_half ? 11 : 8), is_half ? -24 : -133));
      if (!(std::abs(exact) < to_double(std::numeric_limits<T>::max()) / 2)) return;
      check_error(what, c, k, to_double(found), exact, scale, 0.501L * ulp + 1e-13L * scale);
    } else {
      compare(what, c, k, found, exact, scale);
    }
  }

  void check_error(const char* what, Index c, Index k, double found, long double exact, long double scale,
                   long double allowed) const {
    const long double error = std::abs(static_cast<long double>(found) - exact);
    if (error <= allowed) return;
    char text[400];
    std::snprintf(
        text, sizeof(text),
        "%s of channel %lld, value %lld: got %.17g, expected %.17Lg, off by %.3Lg of its scale\n%s, %s, shape "
        "[%lld, %lld, %lld], axis %d, epsilon %g, slope %g, %s, %s, %d elements off",
        what, static_cast<long long>(c), static_cast<long long>(k), found, exact, error / scale, name_of_type(),
        Layout == Eigen::RowMajor ? "RowMajor" : "ColMajor", static_cast<long long>(shape_[0]),
        static_cast<long long>(shape_[1]), static_cast<long long>(shape_[2]), axis_, bn_.options().epsilon(), slope_,
        bn_.is_training() ? "training" : "inference", threads_ ? "3 threads" : "1 thread", misalignment_);
    fail(text);
  }

  static const char* name_of_type() {
    return std::is_same_v<T, float>         ? "float"
           : std::is_same_v<T, double>      ? "double"
           : std::is_same_v<T, Eigen::half> ? "half"
                                            : "bfloat16";
  }

  void check_forward(const State& before, const Values& y, bool batch, bool tracked, bool with_residual) const {
    const State after = state();
    for_some_channels([&](Index c) {
      exact::Channel input = channel(c, x_, before, nullptr);
      input.batch_statistics = batch;
      if (!finite(input)) return;
      if (!batch && input.running_var + input.epsilon < 0) {
        for (Index k = 0; k < per_channel_; ++k) {
          if (!std::isnan(to_double(y[at(c, k)]))) fail("a negative running variance gave a number");
        }
        return;
      }
      const exact::Result exact = exact::solve(input, 50);
      const exact::Scales scales = exact::scales(input, exact);
      // Running statistics far from x cancel against the bias.
      const long double scale = scales.y + 2 * std::abs(static_cast<long double>(input.bias));
      for (Index k = 0; k < per_channel_; ++k) {
        const long double r = with_residual ? to_double(r_[at(c, k)]) : 0;
        const long double sum = exact.y[static_cast<std::size_t>(k)] + r;
        compare_element("y", c, k, y[at(c, k)], sum > 0 ? sum : slope_ * sum,
                        (scale + std::abs(r)) * std::max(1.0, slope_));
      }
      if (!bn_.options().track_running_stats()) return;
      const auto i = static_cast<std::size_t>(c);
      if (tracked) {
        const long double old = std::abs(static_cast<long double>(input.running_mean));
        compare("running_mean", c, 0, after.running_mean[i], exact.running_mean, scales.running_mean + old);
        compare("running_var", c, 0, after.running_var[i], exact.running_var,
                scales.running_var + std::abs(static_cast<long double>(input.running_var)));
      } else if (!same_bits(before.running_mean, after.running_mean) ||
                 !same_bits(before.running_var, after.running_var)) {
        fail("the running statistics changed without training");
      }
    });
  }

  void check_backward(const State& before, const Pass& pass, const Values& dx) const {
    const State after = state();
    for_some_channels([&](Index c) {
      exact::Channel input = channel(c, pass.x, before, &pass);
      input.batch_statistics = pass.batch_statistics;
      if (!finite(input) || (!pass.batch_statistics && input.running_var + input.epsilon < 0)) return;
      const exact::Result exact = exact::solve(input, 50);
      long double largest = exact::scales(input, exact).dx, terms = 0, sum = 0;
      for (const long double value : exact.dx) largest = std::max(largest, std::abs(value));
      for (Index k = 0; k < per_channel_; ++k) {
        compare_element("dx", c, k, dx[at(c, k)], exact.dx[static_cast<std::size_t>(k)], largest);
        // x-hat, from y = x-hat weight + bias; where weight is 0, its bound, or of running statistics itself.
        const auto at_k = static_cast<std::size_t>(k);
        const long double x_hat = input.weight != 0 ? (exact.y[at_k] - input.bias) / input.weight
                                  : pass.batch_statistics
                                      ? std::sqrt(static_cast<long double>(per_channel_))
                                      : (static_cast<long double>(input.x[at_k]) - input.running_mean) * exact.inv_std;
        const auto dy = std::abs(static_cast<long double>(input.dy[at_k]));
        sum += dy;
        terms += dy * std::abs(x_hat);
      }
      const auto i = static_cast<std::size_t>(c);
      if (!after.weight_grad.empty()) {
        const auto old = static_cast<long double>(before.weight_grad[i]);
        compare("weight_grad", c, 0, after.weight_grad[i], old + exact.weight_grad, std::abs(old) + terms + sum);
      }
      if (!after.bias_grad.empty()) {
        const auto old = static_cast<long double>(before.bias_grad[i]);
        compare("bias_grad", c, 0, after.bias_grad[i], old + exact.bias_grad, std::abs(old) + sum);
      }
    });
  }

  // The same with x-hat = (v - bias) / weight, where v is y less its activation, y being the stored one. What is lost
  // by its being stored is lost for both: here is only what the library computes of it.
  void check_backward_from_output(const State& before, const Pass& pass, const Values& dx) const {
    const State after = state();
    for_some_channels([&](Index c) {
      exact::Channel input = channel(c, pass.x, before, &pass);
      input.batch_statistics = pass.batch_statistics;
      if (!finite(input) || (!pass.batch_statistics && input.running_var + input.epsilon < 0)) return;
      const long double weight = or_else(pass.weight, c, 1), bias = or_else(pass.bias, c, 0),
                        n = static_cast<long double>(per_channel_);
      std::vector<long double> x_hat;
      long double sum = 0, product = 0, terms = 0, absolute = 0, largest_dy = 0, largest_x_hat = 0;
      for (Index k = 0; k < per_channel_; ++k) {
        const long double y = to_double(pass.y[at(c, k)]), dy = input.dy[static_cast<std::size_t>(k)];
        if (!std::isfinite(y)) return;
        x_hat.push_back(((y > 0 ? y : y / slope_) - bias) / weight);
        sum += dy;
        product += dy * x_hat.back();
        absolute += std::abs(dy);
        terms += std::abs(dy * x_hat.back());
        largest_dy = std::max(largest_dy, std::abs(dy));
        largest_x_hat = std::max(largest_x_hat, std::abs(x_hat.back()));
      }
      const long double factor = input.weight * exact::solve(input, 50).inv_std;
      const long double scale = std::abs(factor) * (largest_dy + largest_x_hat * terms / n);
      for (Index k = 0; k < per_channel_; ++k) {
        const auto i = static_cast<std::size_t>(k);
        long double expected = input.dy[i];
        if (pass.batch_statistics) expected -= sum / n + x_hat[i] * product / n;
        compare_element("dx from the output", c, k, dx[at(c, k)], expected * factor, scale);
      }
      const auto i = static_cast<std::size_t>(c);
      if (!after.weight_grad.empty()) {
        const auto old = static_cast<long double>(before.weight_grad[i]);
        compare("weight_grad from the output", c, 0, after.weight_grad[i], old + product,
                std::abs(old) + terms + absolute);
      }
      if (!after.bias_grad.empty()) {
        const auto old = static_cast<long double>(before.bias_grad[i]);
        compare("bias_grad from the output", c, 0, after.bias_grad[i], old + sum, std::abs(old) + absolute);
      }
    });
  }

  Bytes& bytes_;
  int axis_;
  Index channels_;
  bool tags_, has_activation_;
  double slope_;  // of the activation, below 0
  Layer bn_;
  std::vector<Recipe<T>> recipes_;
  Shape shape_{};
  Index per_channel_ = 0;
  Values x_, dy_, r_;
  std::vector<Pass> passes_;
  bool threads_ = false;
  int misalignment_ = 0;
};

template <class T, template <class, int> class Holders>
void play_to(Bytes& bytes, const Kind& kind) {
  if (kind.row_major) {
    Player<T, Eigen::RowMajor, Holders>(bytes, kind).play();
  } else {
    Player<T, Eigen::ColMajor, Holders>(bytes, kind).play();
  }
}

}  // namespace fuzz

#endif  // BATCHNORM_TESTS_FUZZ_PLAY_IMPL_HPP
