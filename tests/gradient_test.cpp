// The gradients against central differences of the layer's own forward, in double: for x, weight and bias, over every
// rank, layout, channel axis, mode and option.

#include <cmath>

#include "catch.hpp"
#include "duel.hpp"

using batchnorm::BatchNormOptions;
using batchnorm::SingleValue;

namespace {

using Real = oracle::Real;
using Doubles = std::vector<double>;

// The loss whose gradients are taken: sum(dy * forward(x)), summed in long double so that only the layer's own rounding
// is in the differences. Every evaluation starts from the same state.
class Loss {
 public:
  Loss(const oracle::Geometry& geometry, const BatchNormOptions& options, bool training, Random& random)
      : x(random.tensor<double>(geometry)),
        dy(random.vector<double>(x.size(), -1, 1)),
        layer_(AnyLayer<double>::make(geometry, options)),
        geometry_(geometry) {
    state = layer_->state();
    for (auto& v : state.weight) v = random.uniform(0.5, 2) * (random.integer(0, 3) ? 1 : -1);
    for (auto& v : state.bias) v = random.uniform(-2, 2);
    for (auto& v : state.running_mean) v = random.uniform(-2, 2);
    for (auto& v : state.running_var) v = random.uniform(0.5, 4);
    layer_->train(training);
  }

  Real operator()() const {
    Doubles y(x.size());
    layer_->set_parameters(state);
    layer_->forward(geometry_.extents, x.data(), y.data());
    Real sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += static_cast<Real>(dy[i]) * static_cast<Real>(y[i]);
    return sum;
  }

  // Central differences of fourth order, h = 2^-9: the error of the method is about h^4 / 30 times the fifth
  // derivative, 5e-13 of it, and rounding adds about 1e-16 / h = 5e-14 for each element.
  double derivative(double& parameter) const {
    const double value = parameter, h = 0x1p-9;
    const auto at = [&](double shifted) {
      parameter = shifted;
      return (*this)();
    };
    const Real near = at(value + h) - at(value - h), far = at(value + 2 * h) - at(value - 2 * h);
    parameter = value;
    return static_cast<double>((8 * near - far) / (12 * static_cast<Real>(h)));
  }

  // dx, and the gradients of the parameters in the returned state.
  State<double> backward(Doubles& dx) const {
    (*this)();
    layer_->zero_grad();
    dx.assign(x.size(), 77);
    layer_->backward(geometry_.extents, x.data(), dy.data(), dx.data());
    return layer_->state();
  }

  Doubles x, dy;
  State<double> state;

 private:
  std::unique_ptr<AnyLayer<double>> layer_;
  oracle::Geometry geometry_;
};

// The largest difference between a gradient and its central differences, relative to the largest gradient.
double disagreement(const Loss& loss, Doubles& parameters, const Doubles& gradient) {
  if (parameters.empty()) return gradient.empty() ? 0 : INFINITY;
  double worst = 0, largest = 0;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const double numeric = loss.derivative(parameters[i]);
    worst = std::max(worst, std::abs(numeric - gradient[i]));
    largest = std::max({largest, std::abs(numeric), std::abs(gradient[i])});
  }
  // A gradient of exactly zero, such as that of x where y is the bias, leaves only rounding.
  return worst / std::max(largest, 1e-3);
}

void check_gradients(const oracle::Geometry& geometry, const BatchNormOptions& options, bool training) {
  Random random(21);
  Loss loss(geometry, options, training, random);
  Doubles dx;
  const auto gradients = loss.backward(dx);
  INFO(geometry << (training ? ", training" : ", inference"));
  // A hundred times better than asked for; see derivative() for what the method itself can do.
  const double tolerance = 1e-9;
  CHECK(disagreement(loss, loss.x, dx) < tolerance);
  CHECK(disagreement(loss, loss.state.weight, gradients.weight_grad) < tolerance);
  CHECK(disagreement(loss, loss.state.bias, gradients.bias_grad) < tolerance);
}

}  // namespace

TEST_CASE("gradients are the derivatives of forward for every rank, layout, channel axis, mode and option") {
  for (const auto& geometry : all_geometries()) {
    for (const bool training : {true, false}) {
      for (const bool track : {true, false}) {
        for (const bool scale : {true, false}) {
          for (const bool shift : {true, false}) {
            const auto options = BatchNormOptions(geometry.channels())
                                     .channel_axis(geometry.axis)
                                     .track_running_stats(track)
                                     .scale(scale)
                                     .shift(shift);
            check_gradients(geometry, options, training);
          }
        }
      }
    }
  }
}

TEST_CASE("gradients are the derivatives of forward for every epsilon, momentum and kind of running variance") {
  for (const bool row_major : {true, false}) {
    const oracle::Geometry geometry{{3, 4, 5}, row_major, 1};
    for (const bool training : {true, false}) {
      for (const double epsilon : {0.0, 1e-3, 0.5})
        check_gradients(geometry, BatchNormOptions(4).epsilon(epsilon), training);
      for (const auto momentum : {std::optional<double>(0.0), std::optional<double>(1.0), std::optional<double>()}) {
        check_gradients(geometry, BatchNormOptions(4).momentum(momentum), training);
      }
      check_gradients(geometry, BatchNormOptions(4).running_variance(batchnorm::Variance::biased), training);
      check_gradients(geometry, BatchNormOptions::onnx(4), training);
      check_gradients({{3, 5, 4}, row_major, 2}, BatchNormOptions::keras(4), training);
    }
  }
}

TEST_CASE("gradients are the derivatives of forward for one value per channel, whatever its policy") {
  for (const auto policy : {SingleValue::skip_update, SingleValue::use_running, SingleValue::allow}) {
    for (const bool row_major : {true, false}) {
      check_gradients({{1, 4, 1}, row_major, 1}, BatchNormOptions(4).single_value(policy), true);
    }
  }
}

TEST_CASE("gradients are the derivatives of forward for long rows, many channels and many samples") {
  check_gradients({{2, 2, 83}, true, 1}, 2, true);
  check_gradients({{11, 67}, true, 1}, 67, true);
  check_gradients({{11, 67}, false, 1}, 67, true);
  check_gradients({{71, 2, 2}, true, 1}, 2, true);
}
