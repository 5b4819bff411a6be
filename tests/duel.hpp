// The library and the oracle side by side: every call goes to both, and everything that can be seen is compared.

#ifndef BATCHNORM_TESTS_DUEL_HPP
#define BATCHNORM_TESTS_DUEL_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "any_layer.hpp"
#include "oracle.hpp"

/// The oracle's settings for the same layer.
inline oracle::Settings settings_of(const batchnorm::BatchNormOptions& options) {
  oracle::Settings settings;
  settings.epsilon = options.epsilon();
  settings.momentum = options.momentum();
  settings.track = options.track_running_stats();
  settings.unbiased = options.running_variance() == batchnorm::Variance::unbiased;
  switch (options.single_value()) {
    case batchnorm::SingleValue::error:
      settings.single_value = oracle::SingleValue::error;
      break;
    case batchnorm::SingleValue::skip_update:
      settings.single_value = oracle::SingleValue::skip_update;
      break;
    case batchnorm::SingleValue::use_running:
      settings.single_value = oracle::SingleValue::use_running;
      break;
    case batchnorm::SingleValue::allow:
      settings.single_value = oracle::SingleValue::allow;
      break;
  }
  return settings;
}

/// How far from the exact result each quantity may be. The figures are what the library promises: y relative to the
/// largest value (or bias) of its channel; the running statistics and the gradients of the parameters relative to the
/// largest of all channels; dx relative to |weight| inv_std max|dy| of its channel, before its final cancellation.
struct Tolerances {
  oracle::Real y, dx, running, weight_grad, bias_grad;
};

template <typename T>
Tolerances promised();
template <>
inline Tolerances promised<float>() {
  return {1e-6L, 1e-6L, 1e-6L, 1e-6L, 1e-6L};
}
template <>
inline Tolerances promised<double>() {
  return {1e-13L, 1e-13L, 1e-13L, 1e-13L, 1e-13L};
}

/// Reproducible numbers, the same with every standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  double uniform(double low, double high) {
    return low + (high - low) * (static_cast<double>(engine_() >> 11) * 0x1p-53);
  }
  std::int64_t integer(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(engine_() % static_cast<std::uint64_t>(high - low + 1));
  }
  template <typename T>
  std::vector<T> vector(std::size_t size, double low, double high) {
    std::vector<T> values(size);
    for (auto& value : values) value = static_cast<T>(uniform(low, high));
    return values;
  }
  /// A tensor whose channels differ in mean and deviation, so that a mixed-up channel shows.
  template <typename T>
  std::vector<T> tensor(const oracle::Geometry& g) {
    std::vector<T> values(static_cast<std::size_t>(g.size()));
    oracle::for_each_element(g, [&](std::size_t c, std::size_t i) {
      const double deviation = 0.5 + 0.25 * static_cast<double>(c % 5), mean = static_cast<double>(c % 7) - 2.5;
      values[i] = static_cast<T>(mean + deviation * uniform(-2, 2));
    });
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

/// A few values per channel for every rank from 2 to 5, layout and channel axis.
inline std::vector<oracle::Geometry> all_geometries() {
  std::vector<oracle::Geometry> all;
  for (const auto& extents : {oracle::Extents{6, 5}, {3, 4, 5}, {2, 3, 4, 5}, {2, 3, 4, 1, 5}}) {
    for (const bool row_major : {true, false}) {
      for (std::size_t axis = 0; axis < extents.size(); ++axis) {
        all.push_back({extents, row_major, static_cast<int>(axis)});
      }
    }
  }
  return all;
}

enum class Place { apart, over_x, over_dy };

template <typename T>
class Duel {
 public:
  Duel(const oracle::Geometry& geometry, const batchnorm::BatchNormOptions& options,
       const Tolerances& tolerances = promised<T>())
      : layer(AnyLayer<T>::make(geometry, options)),
        exact(settings_of(options), geometry.channels()),
        geometry_(geometry),
        tolerances_(tolerances) {}

  /// Random weights, biases and running statistics, where the layer has any.
  void randomize(Random& random) {
    auto state = layer->state();
    for (auto& v : state.weight) v = static_cast<T>(random.uniform(0.5, 2) * (random.integer(0, 3) ? 1 : -1));
    for (auto& v : state.bias) v = static_cast<T>(random.uniform(-2, 2));
    for (auto& v : state.running_mean) v = static_cast<T>(random.uniform(-2, 2));
    for (auto& v : state.running_var) v = static_cast<T>(random.uniform(0.25, 4));
    set(state);
  }
  void set(const State<T>& state) {
    layer->set_parameters(state);
    follow(state);
  }
  void train(bool on) {
    layer->train(on);
    exact.training = on;
  }
  void zero_grad() {
    layer->zero_grad();
    std::fill(exact.weight_grad.begin(), exact.weight_grad.end(), 0);
    std::fill(exact.bias_grad.begin(), exact.bias_grad.end(), 0);
  }

  void forward(const std::vector<T>& x, CallShape shape = CallShape::into, Place place = Place::apart) {
    forward(geometry_, x, shape, place);
  }
  void forward(const oracle::Geometry& g, const std::vector<T>& x, CallShape shape = CallShape::into,
               Place place = Place::apart) {
    std::vector<T> y = x;
    if (place == Place::apart) std::fill(y.begin(), y.end(), T(77));
    layer->forward(g.extents, place == Place::apart ? x.data() : y.data(), y.data(), shape);
    compare_y("y", g, y, exact.forward(g, reals(x)));
    compare_state();
  }

  void infer(const std::vector<T>& x, CallShape shape = CallShape::into) { infer(geometry_, x, shape); }
  void infer(const oracle::Geometry& g, const std::vector<T>& x, CallShape shape = CallShape::into) {
    std::vector<T> y(x.size(), T(77));
    layer->infer(g.extents, x.data(), y.data(), shape);
    compare_y("inferred y", g, y, exact.infer(g, reals(x)));
    compare_state();
  }

  void backward(const std::vector<T>& x, const std::vector<T>& dy, CallShape shape = CallShape::into,
                Place place = Place::apart) {
    backward(geometry_, x, dy, shape, place);
  }
  void backward(const oracle::Geometry& g, const std::vector<T>& x, const std::vector<T>& dy,
                CallShape shape = CallShape::into, Place place = Place::apart) {
    std::vector<T> dx(x.size(), T(77));
    if (place == Place::over_x) dx = x;
    if (place == Place::over_dy) dx = dy;
    layer->backward(g.extents, place == Place::over_x ? dx.data() : x.data(),
                    place == Place::over_dy ? dx.data() : dy.data(), dx.data(), shape);
    const auto expected = exact.backward(g, reals(x), reals(dy));
    oracle::Reals scale(exact.weight.size(), 0);
    oracle::for_each_element(g, [&](std::size_t c, std::size_t i) {
      const auto largest = std::abs(exact.weight[c] * exact.inv_std(c) * static_cast<oracle::Real>(dy[i]));
      scale[c] = std::max(scale[c], largest);
    });
    compare_elements("dx", g, dx, expected, scale, tolerances_.dx);
    compare_state();
  }

  /// What disagreed first, or nothing.
  const std::string& complaint() const { return complaint_; }

  std::unique_ptr<AnyLayer<T>> layer;
  oracle::Layer exact;

 private:
  using Real = oracle::Real;

  static oracle::Reals reals(const std::vector<T>& values) { return {values.begin(), values.end()}; }

  void complain(const std::string& what, std::size_t index, Real got, Real expected, Real scale, Real tolerance) {
    if (!complaint_.empty()) return;
    std::ostringstream text;
    text.precision(20);
    text << what << '[' << index << "] is " << got << ", expected " << expected << "; off by "
         << std::abs(got - expected) << ", allowed " << tolerance << " of " << scale << "; " << geometry_;
    complaint_ = text.str();
  }
  static bool close(Real got, Real expected, Real scale, Real tolerance) {
    return got == expected || std::abs(got - expected) <= tolerance * scale;  // false for a NaN
  }

  void compare_y(const char* what, const oracle::Geometry& g, const std::vector<T>& got,
                 const oracle::Reals& expected) {
    oracle::Reals scale(exact.bias.size(), 0);
    for (std::size_t c = 0; c < scale.size(); ++c) scale[c] = std::abs(exact.bias[c]);
    oracle::for_each_element(
        g, [&](std::size_t c, std::size_t i) { scale[c] = std::max(scale[c], std::abs(expected[i])); });
    compare_elements(what, g, got, expected, scale, tolerances_.y);
  }
  void compare_elements(const char* what, const oracle::Geometry& g, const std::vector<T>& got,
                        const oracle::Reals& expected, const oracle::Reals& scale, Real tolerance) {
    oracle::for_each_element(g, [&](std::size_t c, std::size_t i) {
      const auto value = static_cast<Real>(got[i]);
      if (!close(value, expected[i], scale[c], tolerance)) complain(what, i, value, expected[i], scale[c], tolerance);
    });
  }
  void compare_vector(const char* what, const std::vector<T>& got, const oracle::Reals& expected, Real tolerance) {
    if (got.empty()) return;  // the option switches it off
    Real scale = 0;
    for (const auto value : expected) scale = std::max(scale, std::abs(value));
    for (std::size_t c = 0; c < expected.size(); ++c) {
      const auto value = static_cast<Real>(got[c]);
      if (!close(value, expected[c], scale, tolerance)) complain(what, c, value, expected[c], scale, tolerance);
    }
  }
  void compare_state() {
    const auto state = layer->state();
    compare_vector("weight", state.weight, exact.weight, 0);
    compare_vector("bias", state.bias, exact.bias, 0);
    compare_vector("running_mean", state.running_mean, exact.running_mean, tolerances_.running);
    compare_vector("running_var", state.running_var, exact.running_var, tolerances_.running);
    compare_vector("weight_grad", state.weight_grad, exact.weight_grad, tolerances_.weight_grad);
    compare_vector("bias_grad", state.bias_grad, exact.bias_grad, tolerances_.bias_grad);
    if (state.batches != exact.batches || state.training != exact.training) {
      complain("num_batches_tracked", 0, static_cast<Real>(state.batches), static_cast<Real>(exact.batches), 1, 0);
    }
    follow(state);
  }
  // The layer's state is rounded to its parameters' type; the oracle goes on from there, so that errors do not add up.
  void follow(const State<T>& state) {
    const auto take = [](oracle::Reals& to, const std::vector<T>& from) {
      if (!from.empty()) to.assign(from.begin(), from.end());
    };
    take(exact.weight, state.weight);
    take(exact.bias, state.bias);
    take(exact.running_mean, state.running_mean);
    take(exact.running_var, state.running_var);
    take(exact.weight_grad, state.weight_grad);
    take(exact.bias_grad, state.bias_grad);
  }

  oracle::Geometry geometry_;
  Tolerances tolerances_;
  std::string complaint_;
};

#endif  // BATCHNORM_TESTS_DUEL_HPP
