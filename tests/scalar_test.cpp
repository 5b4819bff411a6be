// Number types other than float and double. Eigen's AutoDiffScalar carries exact derivatives through forward, which are
// the gradients that backward must give; long double keeps its digits; 16-bit results are rounded to even.

#include <batchnorm/batchnorm.hpp>

#include <unsupported/Eigen/AutoDiff>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;

constexpr int channels = 3;

// Elements of the input, then weights, then biases: each has a derivative of its own.
template <int Elements>
using Dual = Eigen::AutoDiffScalar<Eigen::Matrix<double, Elements + 2 * channels, 1>>;

template <class Tensor, class Make>
void fill(Tensor& tensor, Make make) {
  for (Eigen::Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = make(i);
}

template <class Values>
std::vector<double> plain(const Values& values) {
  std::vector<double> result;
  for (Eigen::Index i = 0; i < values.size(); ++i) result.push_back(values.data()[i].value());
  return result;
}

// Backward in double and the derivatives of forward, and the layer of autodiff scalars against the one of doubles.
template <int Rank, int Layout, int Elements>
void check_exact_gradients(const std::array<Eigen::Index, Rank>& shape, const BatchNormOptions& options,
                           bool training) {
  using T = Dual<Elements>;
  constexpr int parameters = Elements + 2 * channels;
  const oracle::Geometry geometry{{shape.begin(), shape.end()}, Layout == Eigen::RowMajor, options.channel_axis()};
  REQUIRE(geometry.size() == Elements);
  Random random(31);
  const auto x = random.vector<double>(Elements, -2, 3), dy = random.vector<double>(Elements, -1, 1);
  const auto layer = AnyLayer<double>::make(geometry, options);
  auto state = layer->state();
  for (auto& v : state.weight) v = random.uniform(0.5, 2);
  for (auto& v : state.bias) v = random.uniform(-1, 1);
  for (auto& v : state.running_mean) v = random.uniform(-1, 1);
  for (auto& v : state.running_var) v = random.uniform(0.5, 2);
  layer->set_parameters(state);
  layer->train(training);

  BatchNorm<T, Rank> bn(options);
  bn.train(training);
  Eigen::Tensor<T, Rank, Layout> x_dual(shape), dy_dual(shape);
  const auto copy = [](auto& to, const std::vector<double>& from, int first_derivative) {
    for (Eigen::Index i = 0; i < to.size(); ++i) {
      const double value = from[static_cast<std::size_t>(i)];
      to.data()[i] = first_derivative < 0 ? T(value) : T(value, parameters, first_derivative + static_cast<int>(i));
    }
  };
  copy(x_dual, x, 0);
  copy(dy_dual, dy, -1);  // -1: a constant
  copy(bn.weight(), state.weight, Elements);
  copy(bn.bias(), state.bias, Elements + channels);
  copy(bn.running_mean(), state.running_mean, -1);
  copy(bn.running_var(), state.running_var, -1);

  std::vector<double> y(x.size()), dx(x.size());
  layer->forward(geometry.extents, x.data(), y.data());
  layer->backward(geometry.extents, x.data(), dy.data(), dx.data());
  state = layer->state();
  const auto y_dual = bn.forward(x_dual);
  const auto dx_dual = bn.backward(x_dual, dy_dual);

  // The derivatives of sum(dy * y), as one vector: of x, then of the weights, then of the biases.
  Eigen::Matrix<double, parameters, 1> exact = Eigen::Matrix<double, parameters, 1>::Zero();
  for (std::size_t i = 0; i < x.size(); ++i) exact += dy[i] * y_dual.data()[i].derivatives();
  const auto worst = [&exact](const std::vector<double>& gradient, int first) {
    double error = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      error = std::max(error, std::abs(gradient[i] - exact[first + static_cast<Eigen::Index>(i)]));
    }
    return error;
  };
  const auto largest_difference = [](const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
    double error = 0;
    for (std::size_t i = 0; i < a.size(); ++i) error = std::max(error, std::abs(a[i] - b[i]));
    return error;
  };
  // A few dozen roundings of 1e-16 on sums of a dozen terms of at most 3.
  const double tolerance = 1e-12 * exact.cwiseAbs().maxCoeff();
  INFO(geometry << (training ? ", training" : ", inference"));
  CHECK(worst(dx, 0) <= tolerance);
  CHECK(worst(state.weight_grad, Elements) <= tolerance);
  CHECK(worst(state.bias_grad, Elements + channels) <= tolerance);
  CHECK(largest_difference(plain(y_dual), y) <= 1e-12);
  CHECK(largest_difference(plain(dx_dual), dx) <= tolerance);
  CHECK(largest_difference(plain(bn.weight_grad()), state.weight_grad) <= tolerance);
  CHECK(largest_difference(plain(bn.bias_grad()), state.bias_grad) <= tolerance);
  CHECK(largest_difference(plain(bn.running_mean()), state.running_mean) <= 1e-12);
  CHECK(largest_difference(plain(bn.running_var()), state.running_var) <= 1e-12);
}

template <int Rank, int Layout, int Elements>
void check_axes(const std::array<Eigen::Index, Rank - 1>& others) {
  for (int axis = 0; axis < Rank; ++axis) {
    std::array<Eigen::Index, Rank> shape = {channels};
    std::copy(others.begin(), others.end(), shape.begin() + 1);
    std::rotate(shape.begin(), shape.begin() + 1, shape.begin() + 1 + axis);  // the channels to their axis
    const auto options = BatchNormOptions(channels).channel_axis(axis);
    for (const bool training : {true, false}) {
      check_exact_gradients<Rank, Layout, Elements>(shape, options, training);
      check_exact_gradients<Rank, Layout, Elements>(shape, BatchNormOptions(options).track_running_stats(false),
                                                    training);
      check_exact_gradients<Rank, Layout, Elements>(shape, BatchNormOptions(options).scale(false), training);
      check_exact_gradients<Rank, Layout, Elements>(shape, BatchNormOptions(options).shift(false), training);
    }
  }
}

}  // namespace

TEST_CASE("gradients are the exact derivatives that an autodiff scalar carries through forward") {
  check_axes<2, Eigen::RowMajor, 12>({4});
  check_axes<3, Eigen::ColMajor, 12>({2, 2});
  check_axes<4, Eigen::RowMajor, 12>({2, 1, 2});
  check_axes<5, Eigen::ColMajor, 12>({2, 1, 2, 1});
}

TEST_CASE("long double keeps its digits in forward, backward and the running statistics") {
  using T = long double;
  const T ulps = std::numeric_limits<T>::epsilon() * 100;  // for sums of a few dozen terms
  for (const bool row_major : {true, false}) {
    for (const bool training : {true, false}) {
      const oracle::Geometry geometry{{4, 3, 5}, row_major, 1};
      Random random(33);
      const auto x = random.tensor<T>(geometry), dy = random.vector<T>(x.size(), -1, 1);
      oracle::Layer exact(oracle::Settings{}, 3);
      BatchNorm<T, 3> bn(3);
      bn.train(training);
      exact.training = training;
      std::vector<T> y(x.size()), dx(x.size());
      const auto run = [&](auto layout) {
        using Tensor = Eigen::Tensor<T, 3, decltype(layout)::value>;
        const Eigen::TensorMap<const Tensor> x_map(x.data(), 4, 3, 5), dy_map(dy.data(), 4, 3, 5);
        bn.forward(x_map, Eigen::TensorMap<Tensor>(y.data(), 4, 3, 5));
        bn.backward(x_map, dy_map, Eigen::TensorMap<Tensor>(dx.data(), 4, 3, 5));
      };
      if (row_major) {
        run(std::integral_constant<int, Eigen::RowMajor>());
      } else {
        run(std::integral_constant<int, Eigen::ColMajor>());
      }
      const auto exact_y = exact.forward(geometry, x), exact_dx = exact.backward(geometry, x, dy);
      T worst = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        worst = std::max({worst, std::abs(y[i] - exact_y[i]), std::abs(dx[i] - exact_dx[i])});
      }
      for (Eigen::Index c = 0; c < 3; ++c) {
        const auto at = static_cast<std::size_t>(c);
        worst = std::max({worst, std::abs(bn.running_mean()(c) - exact.running_mean[at]),
                          std::abs(bn.running_var()(c) - exact.running_var[at]),
                          std::abs(bn.weight_grad()(c) - exact.weight_grad[at]),
                          std::abs(bn.bias_grad()(c) - exact.bias_grad[at])});
      }
      CHECK(worst < ulps);
    }
  }
}

TEST_CASE("more channels than a block has, of a scalar whose size is no power of two") {
  using Dual2 = Eigen::AutoDiffScalar<Eigen::Matrix<double, 2, 1, Eigen::DontAlign>>;  // blocks of whole cache lines
                                                                                       // would be of odd sizes
  static_assert(sizeof(Dual2) == 24);
  constexpr Eigen::Index many = 2052;
  Eigen::Tensor<double, 2, Eigen::RowMajor> x(3, many);
  Eigen::Tensor<Dual2, 2, Eigen::RowMajor> x_dual(3, many);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = static_cast<double>((i * 37) % 101);
    x_dual.data()[i] = Dual2(x.data()[i]);
  }
  BatchNorm<double, 2> bn(many);
  BatchNorm<Dual2, 2> bn_dual(many);
  const Eigen::Tensor<double, 2, Eigen::RowMajor> y = bn.forward(x), dx = bn.backward(x, x);
  const auto y_dual = bn_dual.forward(x_dual), dx_dual = bn_dual.backward(x_dual, x_dual);
  double worst = 0;
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    worst = std::max(worst, std::abs(y_dual.data()[i].value() - y.data()[i]));
    worst = std::max(worst, std::abs(dx_dual.data()[i].value() - dx.data()[i]));
  }
  CHECK(worst < 1e-13);
}

// Every second product is a tie, since a weight is one and a half times a power of two.
TEMPLATE_TEST_CASE("16-bit inference rounds ties to even, wherever an element lies", "[large]", Eigen::half,
                   Eigen::bfloat16) {
  struct Shape {
    Eigen::Index outer, channels, inner;
    bool last;
  };
  constexpr int steps = std::is_same_v<TestType, Eigen::half> ? 1024 : 128;  // between 1 and 2
  // Rows of many packs, of few and of less than two; columns fewer than a pack, few, odd and many, and those of short
  // rows, whose packs begin anywhere; and both so many that results go past the cache, the last in panels whose rows
  // begin anywhere.
  for (const Shape& shape :
       {Shape{2, 3, 785, false}, Shape{3, 5, 131, false}, Shape{3, 40, 49, false}, Shape{3, 7, 20, false},
        Shape{5, 9, 3, false}, Shape{100, 205, 3, false}, Shape{1, 24, 1, true}, Shape{2, 8, 1, true},
        Shape{300, 24, 1, true}, Shape{301, 33, 1, true}, Shape{30, 1100, 1, true}, Shape{9, 7, 70001, false},
        Shape{130001, 35, 1, true}, Shape{4001, 1101, 1, true}}) {
    const Eigen::Index size = shape.outer * shape.channels * shape.inner;
    BatchNorm<TestType, 3> bn(BatchNormOptions(shape.channels).channel_axis(shape.last ? -1 : 1).epsilon(0));
    for (Eigen::Index c = 0; c < shape.channels; ++c) bn.weight()(c) = std::ldexp(1.5f, static_cast<int>(c % 5));
    constexpr Eigen::Index room = 16;
    std::vector<TestType> x(static_cast<std::size_t>(size)), y(static_cast<std::size_t>(size + room));
    for (Eigen::Index i = 0; i < size; ++i) {
      x[static_cast<std::size_t>(i)] = static_cast<TestType>(1 + static_cast<float>(i * 7 % steps) / steps);
    }
    for (const Eigen::Index offset : {0, 1, 8, 13}) {
      using Map = Eigen::TensorMap<Eigen::Tensor<TestType, 3, Eigen::RowMajor>>;
      const auto map = [&](TestType* data) {
        return shape.last ? Map(data, shape.outer, shape.inner, shape.channels)
                          : Map(data, shape.outer, shape.channels, shape.inner);
      };
      Map out = map(y.data() + offset);
      bn.infer(map(x.data()), out);
      Eigen::Index wrong = 0;
      for (Eigen::Index i = 0; i < size; ++i) {
        const Eigen::Index c = shape.last ? i % shape.channels : i / shape.inner % shape.channels;
        const auto exact = static_cast<float>(x[static_cast<std::size_t>(i)]) * bn.weight()(c);
        wrong += y[static_cast<std::size_t>(offset + i)] != static_cast<TestType>(exact);
      }
      INFO(shape.outer << "x" << shape.channels << "x" << shape.inner << ", " << offset << " elements off");
      CHECK(wrong == 0);
    }
  }
}

// Built with all warnings as errors: no double is narrowed on its way into such a type.
TEST_CASE("an AutoDiffScalar of floats has the derivatives that backward has") {
  using FloatDual = Eigen::AutoDiffScalar<Eigen::Matrix<float, 5, 1>>;
  const float values[] = {0.5f, -1.25f, 2, 3.5f, -0.75f}, gradients[] = {1, -0.5f, 0.25f, 2, -1.5f};
  Eigen::Tensor<float, 2> x(5, 1), dy(5, 1);
  Eigen::Tensor<FloatDual, 2> x_dual(5, 1);
  for (int i = 0; i < 5; ++i) {
    x(i, 0) = values[i];
    dy(i, 0) = gradients[i];
    x_dual(i, 0) = FloatDual(values[i], 5, i);
  }
  BatchNorm<float, 2> bn(1);
  BatchNorm<FloatDual, 2> bn_dual(1);
  bn.forward(x);
  const Eigen::Tensor<float, 2> dx = bn.backward(x, dy);
  const Eigen::Tensor<FloatDual, 2> y_dual = bn_dual.forward(x_dual);
  for (int k = 0; k < 5; ++k) {
    float derivative = 0;
    for (int i = 0; i < 5; ++i) derivative += dy(i, 0) * y_dual(i, 0).derivatives()(k);
    CHECK(std::abs(derivative - dx(k, 0)) < 1e-6f);  // a few roundings of numbers of about 1
  }
  CHECK(std::abs(bn_dual.running_mean()(0).value() - bn.running_mean()(0)) < 1e-6f);
  CHECK(std::abs(bn_dual.running_var()(0).value() - bn.running_var()(0)) < 1e-6f);
}
