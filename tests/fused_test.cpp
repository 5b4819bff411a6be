// Activation and residual in the same pass, and their gradients. The oracle composes them from the textbook's formulas
// in long double: y = act((x - mean) / sqrt(var + epsilon) * weight + bias + r), and backward by the chain rule.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fused_kernels.hpp"

namespace {

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::output;
using batchnorm::residual;
using batchnorm::residual_grad;
using Real = long double;

template <class T>
using Tensor = Eigen::Tensor<T, 3, Eigen::RowMajor>;

template <class T>
Real real(const T& value) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<Real>(static_cast<float>(value));
  } else {
    return static_cast<Real>(value);
  }
}

template <class T>
T scalar(double value) {
  if constexpr (sizeof(T) == 2) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}

template <class T>
bool same_bits(const Tensor<T>& a, const Tensor<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), sizeof(T) * static_cast<std::size_t>(a.size())) == 0;
}

template <class T>
Tensor<T> random_tensor(Random& random, const std::array<Eigen::Index, 3>& shape, double mean = 0) {
  Tensor<T> result(shape);
  for (Eigen::Index i = 0; i < result.size(); ++i) result.data()[i] = scalar<T>(mean + random.uniform(-1, 1));
  return result;
}

// What is normalized: a tensor of rank 3 with channels on some axis, and where its element (c, k) lies.
struct Shape {
  std::array<Eigen::Index, 3> sizes;
  int axis;

  Eigen::Index channels() const { return sizes[static_cast<std::size_t>(axis)]; }
  Eigen::Index per_channel() const { return sizes[0] * sizes[1] * sizes[2] / channels(); }
  std::vector<std::vector<Eigen::Index>> offsets() const {
    std::vector<std::vector<Eigen::Index>> result(static_cast<std::size_t>(channels()));
    Eigen::Index at = 0;
    for (Eigen::Index i = 0; i < sizes[0]; ++i) {
      for (Eigen::Index j = 0; j < sizes[1]; ++j) {
        for (Eigen::Index k = 0; k < sizes[2]; ++k) {
          const Eigen::Index index[] = {i, j, k};
          result[static_cast<std::size_t>(index[axis])].push_back(at++);
        }
      }
    }
    return result;
  }
};

// Of one channel.
struct Expected {
  std::vector<Real> y, dx, dresidual;
  Real inv_std = 0, dweight = 0, dbias = 0;
};

// `stored` gives the y that decides the mask, as the library wrote it.
template <class T, class Stored>
Expected expected(const std::vector<Eigen::Index>& at, const Tensor<T>& x, const Tensor<T>* r, const Tensor<T>& dy,
                  Real weight, Real bias, Real present_weight, Real slope, bool training, Real running_mean,
                  Real running_var, Real epsilon, const Stored& stored) {
  const auto n = static_cast<Real>(at.size());
  Real mean = 0, var = 0;
  for (const auto i : at) mean += real(x.data()[i]) / n;
  for (const auto i : at) var += (real(x.data()[i]) - mean) * (real(x.data()[i]) - mean) / n;
  if (!training) mean = running_mean, var = running_var;
  const Real inv_std = 1 / std::sqrt(var + epsilon);
  Expected e;
  e.inv_std = inv_std;
  Real sum = 0, product = 0;
  for (const auto i : at) {
    const Real normalized = (real(x.data()[i]) - mean) * inv_std;
    const Real v = normalized * weight + bias + (r == nullptr ? 0 : real(r->data()[i]));
    e.y.push_back(v > 0 ? v : slope * v);
    const Real g = real(dy.data()[i]) * (stored(i) > 0 ? 1 : slope);
    e.dresidual.push_back(g);
    sum += g;
    product += g * normalized;
  }
  e.dweight = product;
  e.dbias = sum;
  for (std::size_t k = 0; k < at.size(); ++k) {
    const Real normalized = (real(x.data()[at[k]]) - mean) * inv_std;
    const Real centered = training ? e.dresidual[k] - sum / n - normalized * product / n : e.dresidual[k];
    e.dx.push_back(centered * present_weight * inv_std);
  }
  return e;
}

// Half a digit of the 16-bit types, with a little for sums; for float and double what the library promises.
template <class T>
constexpr Real tolerance() {
  return std::is_same_v<T, float>         ? 1e-6L
         : std::is_same_v<T, double>      ? 1e-13L
         : std::is_same_v<T, Eigen::half> ? 5.1e-4L
                                          : 4.1e-3L;
}

template <class T>
void check_against_the_oracle(const Shape& shape, Activation activation, bool with_residual, bool with_output,
                              bool training, std::uint64_t seed) {
  INFO(shape.sizes[0] << " x " << shape.sizes[1] << " x " << shape.sizes[2] << ", channels on axis " << shape.axis
                      << ", slope " << activation.slope() << (with_residual ? ", residual" : "")
                      << (with_output ? ", output" : "") << (training ? "" : ", inference"));
  Random random(seed);
  const auto C = shape.channels();
  const auto x = random_tensor<T>(random, shape.sizes, 0.25), r = random_tensor<T>(random, shape.sizes),
             dy = random_tensor<T>(random, shape.sizes, 0.1);
  BatchNorm<T, 3> bn(BatchNormOptions(C).channel_axis(shape.axis).activation(activation));
  using Param = typename BatchNorm<T, 3>::Param;
  for (Eigen::Index c = 0; c < C; ++c) {
    bn.weight()(c) = static_cast<Param>(random.uniform(0.5, 1.5) * (c % 3 == 1 ? -1 : 1));
    bn.bias()(c) = static_cast<Param>(random.uniform(-0.5, 0.5));
    bn.running_mean()(c) = static_cast<Param>(random.uniform(0, 0.5));
    bn.running_var()(c) = static_cast<Param>(random.uniform(0.2, 0.5));
  }
  const auto weight = bn.weight(), bias = bn.bias(), mean = bn.running_mean(), var = bn.running_var();
  bn.train(training);
  Tensor<T> y(shape.sizes), dx(shape.sizes), dr(shape.sizes);
  if (with_residual) {
    bn.forward(x, y, residual(r));
  } else {
    bn.forward(x, y);
  }
  // An optimizer's step: the forward's weight and bias decide what was above 0, the present weight scales dx.
  for (Eigen::Index c = 0; c < C; ++c) {
    bn.weight()(c) = static_cast<Param>(1.25);
    bn.bias()(c) = static_cast<Param>(-3);
  }
  bn.zero_grad();
  if (with_output) {
    bn.backward(x, dy, dx, output(y), residual_grad(dr));
  } else {
    bn.backward(x, dy, dx, residual_grad(dr));
  }
  const auto offsets = shape.offsets();
  Real largest_weight = 0, largest_bias = 0, weight_error = 0, bias_error = 0;
  for (Eigen::Index c = 0; c < C; ++c) {
    const auto& at = offsets[static_cast<std::size_t>(c)];
    const auto e = expected(at, x, with_residual ? &r : nullptr, dy, real(weight(c)), real(bias(c)), 1.25L,
                            static_cast<Real>(activation.slope()), training, real(mean(c)), real(var(c)), 1e-5L,
                            [&](Eigen::Index i) { return real(y.data()[i]); });
    Real y_scale = 0, y_error = 0, dx_scale = 0, dx_error = 0;
    bool dr_is_exact = true;
    for (std::size_t k = 0; k < at.size(); ++k) {
      y_scale = std::max(y_scale, std::abs(e.y[k]));
      y_error = std::max(y_error, std::abs(real(y.data()[at[k]]) - e.y[k]));
      dx_scale = std::max(dx_scale,
                          std::abs(real(dy.data()[at[k]])) * std::max(Real(1), static_cast<Real>(activation.slope())));
      dx_error = std::max(dx_error, std::abs(real(dx.data()[at[k]]) - e.dx[k]));
      dr_is_exact = dr_is_exact && dr.data()[at[k]] == scalar<T>(static_cast<double>(e.dresidual[k]));
    }
    CHECK(y_error <= tolerance<T>() * std::max(y_scale, std::abs(real(bias(c)))));
    // Relative to |weight| inv_std max |dy|; where it is the last digit of dx itself, that is up to 3 times as large.
    CHECK(dx_error <= tolerance<T>() * dx_scale * 1.25L * e.inv_std * (sizeof(T) == 2 ? 3 : 1));
    CHECK(dr_is_exact);
    largest_weight = std::max(largest_weight, std::abs(e.dweight));
    largest_bias = std::max(largest_bias, std::abs(e.dbias));
    weight_error = std::max(weight_error, std::abs(real(bn.weight_grad()(c)) - e.dweight));
    bias_error = std::max(bias_error, std::abs(real(bn.bias_grad()(c)) - e.dbias));
  }
  const Real most = std::is_same_v<T, double> ? 1e-13L : 1e-6L;
  CHECK(weight_error <= most * (largest_weight + 1));
  CHECK(bias_error <= most * (largest_bias + 1));
}

template <class Call>
std::string message(const Call& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return std::string("invalid: ") + error.what();
  } catch (const std::logic_error& error) {
    return std::string("logic: ") + error.what();
  }
  return "no error";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEMPLATE_TEST_CASE("activation and residual are their composition with batch normalization, forward and backward", "",
                   float, double, Eigen::half, Eigen::bfloat16) {
  // By rows and by columns, narrow and wide, few values and many.
  const Shape shapes[] = {{{4, 3, 5}, 1},   {{3, 5, 40}, 1},  {{6, 7, 3}, 2},    {{9, 4, 70}, 2},
                          {{2, 3, 700}, 2}, {{40, 33, 3}, 0}, {{8, 2, 1100}, 1}, {{30, 600, 1}, 1}};
  const Activation activations[] = {Activation::none, Activation::relu, Activation::leaky_relu(0.125),
                                    Activation::leaky_relu(2)};
  std::uint64_t seed = 1;
  for (const auto& shape : shapes) {
    for (const auto& activation : activations) {
      for (const bool with_residual : {false, true}) {
        for (const bool with_output : {false, true}) {
          const bool needs_output = with_residual && activation != Activation::none;
          for (const bool training : {true, false}) {
            if (with_output || !needs_output) {
              check_against_the_oracle<TestType>(shape, activation, with_residual, with_output, training, ++seed);
            }
          }
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("the mask of backward is the forward's, also where y rounds to 0", "", float, double, Eigen::half,
                   Eigen::bfloat16) {
  // Weights so small that most of y rounds to 0 in T.
  const double least = std::is_same_v<TestType, float>         ? 0x1p-149
                       : std::is_same_v<TestType, double>      ? std::numeric_limits<double>::denorm_min()
                       : std::is_same_v<TestType, Eigen::half> ? 0x1p-24
                                                               : 0x1p-133;
  Random random(5);
  for (const int axis : {1, 2}) {
    for (const bool training : {true, false}) {
      const Eigen::Index C = 40;
      const std::array<Eigen::Index, 3> sizes =
          axis == 1 ? std::array<Eigen::Index, 3>{20, C, 50} : std::array<Eigen::Index, 3>{20, 50, C};
      BatchNorm<TestType, 3> bn(BatchNormOptions(C).channel_axis(axis).activation(Activation::relu));
      for (Eigen::Index c = 0; c < C; ++c) {
        bn.weight()(c) = static_cast<typename BatchNorm<TestType, 3>::Param>(
            least * std::exp2(static_cast<double>(c % 4) -
                              (std::is_same_v<TestType, double> || std::is_same_v<TestType, float> ? 0 : 2)));
      }
      bn.train(training);
      const auto x = random_tensor<TestType>(random, sizes), dy = random_tensor<TestType>(random, sizes, 3);
      Tensor<TestType> y(sizes), dr(sizes), dx(sizes), by_output(sizes), dx_by_output(sizes);
      bn.forward(x, y);
      bn.backward(x, dy, dx, residual_grad(dr));
      bn.backward(x, dy, dx_by_output, output(y), residual_grad(by_output));
      int zeros = 0, wrong = 0;
      for (Eigen::Index i = 0; i < y.size(); ++i) {
        const bool above = real(y.data()[i]) > 0;
        zeros += !above;
        const TestType g = above ? dy.data()[i] : scalar<TestType>(0);
        wrong += !(dr.data()[i] == g) + !(by_output.data()[i] == g);
      }
      CHECK(zeros > y.size() / 2 + 100);  // more than the half that is below the mean
      CHECK(zeros < y.size());
      CHECK(wrong == 0);
      CHECK(same_bits(dx, dx_by_output));
    }
  }
}

TEMPLATE_TEST_CASE("the largest number that is stored as 0 is known", "", float, double, Eigen::half, Eigen::bfloat16) {
  const double limit = batchnorm::detail::largest_zero<TestType, double>();
  CHECK(real(scalar<TestType>(limit)) == 0);
  CHECK(real(scalar<TestType>(std::nextafter(limit, 1))) > 0);
}

TEMPLATE_TEST_CASE("relu keeps NaN and infinity, and makes +0 of -0 and of what is below", "", float, double,
                   Eigen::half, Eigen::bfloat16) {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const Eigen::Index repeat : {1, 40}) {
    Tensor<TestType> x(repeat, 1, 6), r(repeat, 1, 6);
    const double values[] = {nan, inf, -inf, -0.0, -1, 1};
    for (Eigen::Index n = 0; n < repeat; ++n) {
      for (Eigen::Index i = 0; i < 6; ++i) {
        x(n, 0, i) = scalar<TestType>(values[i]);
        r(n, 0, i) = scalar<TestType>(-0.0);
      }
    }
    BatchNorm<TestType, 3> bn(BatchNormOptions(1).epsilon(0).shift(false).activation(Activation::relu));
    BatchNorm<TestType, 3> leaky(BatchNormOptions(1).epsilon(0).activation(Activation::leaky_relu(0.5)));
    bn.eval();
    leaky.eval();
    const auto y = bn.forward(x, residual(r)), z = leaky.infer(x);
    for (Eigen::Index n = 0; n < repeat; ++n) {
      CHECK(std::isnan(static_cast<double>(real(y(n, 0, 0)))));
      CHECK(real(y(n, 0, 1)) == inf);
      for (const Eigen::Index i : {2, 3, 4}) {
        CHECK(real(y(n, 0, i)) == 0);
        CHECK_FALSE(std::signbit(static_cast<double>(real(y(n, 0, i)))));
      }
      CHECK(real(y(n, 0, 5)) == 1);
      CHECK(std::isnan(static_cast<double>(real(z(n, 0, 0)))));
      CHECK(real(z(n, 0, 1)) == inf);
      CHECK(real(z(n, 0, 2)) == -inf);
      CHECK(real(z(n, 0, 4)) == -0.5);
    }
    // Where y is NaN, dy passes.
    Tensor<TestType> dy(repeat, 1, 6), dx(repeat, 1, 6), dr(repeat, 1, 6);
    dy.setConstant(scalar<TestType>(2));
    bn.backward(x, dy, dx, output(y), residual_grad(dr));
    const double passed[] = {2, 2, 0, 0, 0, 2};
    for (Eigen::Index i = 0; i < 6; ++i) {
      CHECK(real(dr(repeat - 1, 0, i)) == passed[i]);
      CHECK(real(dx(repeat - 1, 0, i)) == passed[i]);
    }
  }
}

TEST_CASE("gradients through an activation and a residual agree with finite differences") {
  // In double, away from the kink: a step of 1e-5 leaves errors of 1e-10 of it, and 1e-11 / 1e-5 of rounding.
  Random random(8);
  const std::array<Eigen::Index, 3> sizes{5, 3, 4};
  for (const double slope : {0.0, 0.3}) {
    const auto options = BatchNormOptions(3).activation(Activation::leaky_relu(slope));
    const auto x = random_tensor<double>(random, sizes), r = random_tensor<double>(random, sizes),
               dy = random_tensor<double>(random, sizes);
    BatchNorm<double, 3> bn(options);
    bn.set_weight({1.5, -0.7, 0.9}).set_bias({0.1, -0.2, 0.3});
    const auto y = bn.forward(x, residual(r));
    const auto [dx, dr] = bn.backward(x, dy, output(y));
    const auto loss = [&](const Tensor<double>& from, const Tensor<double>& add) {
      BatchNorm<double, 3> copy = bn;
      const auto z = copy.forward(from, residual(add));
      double total = 0;
      for (Eigen::Index i = 0; i < z.size(); ++i) total += z.data()[i] * dy.data()[i];
      return total;
    };
    constexpr double step = 1e-5;
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      auto more = x, less = x;
      more.data()[i] += step, less.data()[i] -= step;
      if (std::abs(y.data()[i]) < 1e-3) continue;
      CHECK(dx.data()[i] == Approx((loss(more, r) - loss(less, r)) / (2 * step)).margin(1e-7));
      more = less = r;
      more.data()[i] += step, less.data()[i] -= step;
      CHECK(dr.data()[i] == Approx((loss(x, more) - loss(x, less)) / (2 * step)).margin(1e-7));
    }
  }
}

TEMPLATE_TEST_CASE("fused passes give the same bits on threads, at any alignment, and for matrices", "", float, double,
                   Eigen::half) {
  Random random(11);
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  for (const int axis : {1, 2}) {
    const std::array<Eigen::Index, 3> sizes{64, axis == 1 ? 50 : 130, axis == 1 ? 130 : 50};
    const auto x = random_tensor<TestType>(random, sizes), r = random_tensor<TestType>(random, sizes),
               dy = random_tensor<TestType>(random, sizes);
    BatchNorm<TestType, 3> bn(BatchNormOptions(50).channel_axis(axis).activation(Activation::leaky_relu(0.25)));
    auto threaded = bn, moved = bn;
    const auto y = bn.forward(x, residual(r));
    const auto [dx, dr] = bn.backward(x, dy, output(y));
    CHECK(same_bits(threaded.forward(device, x, residual(r)), y));
    const auto on_threads = threaded.backward(device, x, dy, output(y));
    CHECK(same_bits(on_threads.first, dx));
    CHECK(same_bits(on_threads.second, dr));
    CHECK(same_bits(bn.infer(x, residual(r)), bn.infer(device, x, residual(r))));

    std::vector<TestType> memory(static_cast<std::size_t>(5 * x.size() + 64));
    const auto map = [&](Eigen::Index k) {
      return Eigen::TensorMap<Tensor<TestType>>(memory.data() + k * (x.size() + 3) + 1, sizes);
    };
    auto x_map = map(0), r_map = map(1), y_map = map(2), dy_map = map(3), dx_map = map(4);
    x_map = x, r_map = r, dy_map = dy;
    moved.forward(x_map, y_map, residual(r_map));
    moved.backward(x_map, dy_map, dx_map, output(y_map), residual_grad(dy_map));
    CHECK(same_bits(Tensor<TestType>(y_map), y));
    CHECK(same_bits(Tensor<TestType>(dx_map), dx));
    CHECK(same_bits(Tensor<TestType>(dy_map), dr));
  }
  // Blocks of matrices, by columns of many samples and of few, and by rows of few channels.
  using Matrix = Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic>;
  for (const auto& [samples, channels] : {std::pair<Eigen::Index, Eigen::Index>{40, 20}, {7, 300}, {33, 5}}) {
    Matrix all(3 * samples, 4 * channels);
    for (Eigen::Index i = 0; i < all.size(); ++i) all.data()[i] = scalar<TestType>(random.uniform(-1, 1));
    const auto block = [&, m = samples, n = channels](Eigen::Index i, Eigen::Index j) {
      return all.block(i * m, j * n, m, n);
    };
    const Matrix x = block(0, 0), r = block(0, 1), dy = block(0, 2);
    BatchNorm<TestType, 2> bn(BatchNormOptions(channels).activation(Activation::relu)), whole = bn;
    bn.forward(block(0, 0), block(1, 0), residual(block(0, 1)));
    const Matrix y = whole.forward(x, residual(r));
    CHECK(Matrix(block(1, 0)) == y);
    bn.backward(block(0, 0), block(0, 2), block(1, 1), output(block(1, 0)), residual_grad(block(2, 2)));
    const auto [dx, dr] = whole.backward(x, dy, output(y));
    CHECK(Matrix(block(1, 1)) == dx);
    CHECK(Matrix(block(2, 2)) == dr);
    CHECK(Matrix(block(0, 0)) == x);
  }
}

TEST_CASE("what may be written in place gives the results of memory apart") {
  Random random(13);
  for (const int axis : {1, 2}) {
    const std::array<Eigen::Index, 3> sizes{6, axis == 1 ? 4 : 35, axis == 1 ? 35 : 4};
    const auto x = random_tensor<float>(random, sizes), r = random_tensor<float>(random, sizes),
               dy = random_tensor<float>(random, sizes);
    for (const Activation activation :
         {Activation(Activation::none), Activation(Activation::relu), Activation::leaky_relu(0.5)}) {
      BatchNorm<float, 3> bn(BatchNormOptions(4).channel_axis(axis).activation(activation));
      const auto y = bn.forward(x, residual(r));
      const auto [dx, dr] = bn.backward(x, dy, output(y));

      auto in_place = x;
      bn.forward(in_place, in_place, residual(r));
      CHECK(same_bits(in_place, y));
      in_place = r;
      bn.forward(x, in_place, residual(in_place));
      CHECK(same_bits(in_place, y));
      in_place = x;
      CHECK(same_bits(bn.forward(x, residual(x)), (bn.forward(in_place, in_place, residual(in_place)), in_place)));
      bn.forward(x, residual(r));

      Tensor<float> to(sizes);
      auto g = dy;
      bn.backward(x, g, to, output(y), residual_grad(g));  // dr is dy
      CHECK(same_bits(to, dx));
      CHECK(same_bits(g, dr));
      g = dy;
      bn.backward(x, g, g, output(y), residual_grad(to));  // dx is dy
      CHECK(same_bits(g, dx));
      CHECK(same_bits(to, dr));
      auto over = x;
      g = dy;
      bn.backward(over, g, over, output(y), residual_grad(g));  // dx is x, and dr is dy
      CHECK(same_bits(over, dx));
      CHECK(same_bits(g, dr));
      over = x;
      bn.backward(over, dy, over, output(y));
      CHECK(same_bits(over, dx));

      // And nothing else.
      g = dy;
      over = x;
      auto y_again = y;
      for (const auto& text : {message([&] { bn.backward(x, dy, to, output(y), residual_grad(to)); }),
                               message([&] { bn.backward(over, dy, to, output(y), residual_grad(over)); }),
                               message([&] { bn.backward(x, dy, to, output(y_again), residual_grad(y_again)); }),
                               message([&] { bn.backward(x, g, g, output(y), residual_grad(g)); })}) {
        CHECK(contains(text, "invalid: batchnorm: expected the residual's gradient in memory apart from "));
      }
      if (activation != Activation::none) {
        CHECK(contains(message([&] { bn.backward(x, dy, y_again, output(y_again)); }),
                       "invalid: batchnorm: expected dx in memory apart from the output"));
      }
      std::vector<float> memory(static_cast<std::size_t>(2 * x.size()));
      Eigen::TensorMap<Tensor<float>> first(memory.data(), sizes), shifted(memory.data() + 1, sizes);
      CHECK(contains(message([&] { bn.forward(x, first, residual(shifted)); }),
                     "invalid: batchnorm: expected y to be the residual itself or memory apart from it"));
    }
  }
}

TEST_CASE("a residual without an activation needs nothing in backward, and its gradient is dy") {
  Random random(14);
  const std::array<Eigen::Index, 3> sizes{6, 4, 35};
  const auto x = random_tensor<float>(random, sizes), r = random_tensor<float>(random, sizes),
             dy = random_tensor<float>(random, sizes);
  BatchNorm<float, 3> bn(4), plain(4);  // made without an activation
  const auto y = bn.forward(x, residual(r)), z = plain.forward(x);
  for (Eigen::Index i = 0; i < y.size(); ++i) REQUIRE(y.data()[i] == Approx(z.data()[i] + r.data()[i]).margin(1e-6));
  const auto dx = plain.backward(x, dy);
  CHECK(same_bits(bn.backward(x, dy), dx));
  const auto both = bn.backward(x, dy, output(y));
  CHECK(same_bits(both.first, dx));
  CHECK(same_bits(both.second, dy));
  Tensor<float> to(sizes), dr(sizes);
  bn.backward(x, dy, to, residual_grad(dr));
  CHECK(same_bits(to, dx));
  CHECK(same_bits(dr, dy));
  CHECK(same_bits(bn.backward(x, dy, residual_grad(dr)), dx));
  // An expression as residual, and as output.
  CHECK(same_bits(bn.forward(x, residual(r * 1.0f)), y));
  CHECK(same_bits(bn.backward(x, dy, bn.saved_statistics(), output(y * 1.0f)).first, dx));
}

TEST_CASE("backward from the output alone agrees with backward from x") {
  Random random(15);
  for (const int axis : {1, 2}) {
    const std::array<Eigen::Index, 3> sizes{16, axis == 1 ? 6 : 40, axis == 1 ? 40 : 6};
    for (const double slope : {1.0, 0.01, 0.5, 3.0}) {
      for (const bool training : {true, false}) {
        const auto x = random_tensor<double>(random, sizes, 5), dy = random_tensor<double>(random, sizes, 0.3);
        BatchNorm<double, 3> bn(BatchNormOptions(6).channel_axis(axis).activation(Activation::leaky_relu(slope)));
        for (Eigen::Index c = 0; c < 6; ++c) {
          bn.weight()(c) = c == 2 ? -0.8 : random.uniform(0.5, 2);
          bn.bias()(c) = random.uniform(-1, 1);
          bn.running_mean()(c) = 5;
        }
        bn.train(training);
        auto y = x;
        bn.forward(y, y);
        bn.weight().setConstant(1.25);  // an optimizer's step
        bn.bias().setConstant(7);
        bn.zero_grad();
        const auto exact = bn.backward(x, dy);
        const auto weight_grad = bn.weight_grad(), bias_grad = bn.bias_grad();
        bn.zero_grad();
        const auto dx = bn.backward_from_output(y, dy);
        for (Eigen::Index i = 0; i < dx.size(); ++i) REQUIRE(dx.data()[i] == Approx(exact.data()[i]).margin(1e-12));
        for (Eigen::Index c = 0; c < 6; ++c) {
          CHECK(bn.weight_grad()(c) == Approx(weight_grad(c)).margin(1e-10));
          CHECK(bn.bias_grad()(c) == Approx(bias_grad(c)).margin(1e-10));
        }
        auto g = dy, over = y;
        bn.backward_from_output(y, g, g);
        CHECK(same_bits(g, dx));
        bn.backward_from_output(Eigen::DefaultDevice(), over, dy, over);
        CHECK(same_bits(over, dx));
      }
    }
  }
}

TEST_CASE("calls that ask for what cannot be are errors, and leave everything as it was") {
  Random random(16);
  const std::array<Eigen::Index, 3> sizes{6, 4, 5};
  const auto x = random_tensor<float>(random, sizes), r = random_tensor<float>(random, sizes),
             dy = random_tensor<float>(random, sizes);
  BatchNorm<float, 3> bn(BatchNormOptions(4).activation(Activation::relu));
  Tensor<float> dx(sizes), other(6, 4, 6);
  dx.setConstant(9);
  const auto untouched = dx;
  bn.forward(x, residual(r));
  CHECK(contains(message([&] { bn.backward(x, dy, dx); }), "logic: batchnorm: expected output(y) after x and dy"));
  CHECK(contains(message([&] { bn.backward_from_output(x, dy, dx); }),
                 "logic: batchnorm: expected a forward without a residual"));
  CHECK(contains(message([&] { bn.forward(x, residual(other)); }),
                 "invalid: batchnorm: expected the residual of the shape of x, [6, 4, 5], got [6, 4, 6]"));
  CHECK(contains(message([&] { bn.backward(x, dy, dx, output(other)); }),
                 "invalid: batchnorm: expected the output of the shape of x, [6, 4, 5], got [6, 4, 6]"));
  CHECK(contains(message([&] { bn.backward(x, dy, dx, output(x), residual_grad(other)); }),
                 "invalid: batchnorm: expected the residual's gradient of the shape of x"));
  bn.forward(x);
  CHECK(contains(message([&] { bn.backward_from_output(x, dy, dx); }),
                 "logic: batchnorm: expected an activation that can be inverted"));
  BatchNorm<float, 3> plain(4), leaky(BatchNormOptions(4).activation(Activation::leaky_relu(0.1)));
  CHECK(
      contains(message([&] { plain.backward_from_output(x, dy, dx); }), "logic: batchnorm: expected a forward before"));
  plain.forward(x);
  CHECK(contains(
      message([&] { plain.backward_from_output(x, dy, dx); }),
      "logic: batchnorm: expected a layer, and saved statistics of one, that was made with options.activation"));
  CHECK(contains(message([&] { leaky.backward(x, dy, dx, plain.saved_statistics()); }),
                 "logic: batchnorm: expected a layer, and saved statistics of one"));
  for (const auto& [weight, bias] : {std::pair<float, float>{0, 0},
                                     {1, 5000},
                                     {1, -5000},
                                     {-1e-5f, 1},
                                     {std::numeric_limits<float>::infinity(), 0},
                                     {std::nanf(""), 0}}) {
    leaky.weight().setConstant(1);
    leaky.bias().setConstant(0);
    leaky.weight()(2) = weight;
    leaky.bias()(2) = bias;
    leaky.forward(x);
    leaky.weight().setConstant(1);
    leaky.bias().setConstant(0);
    leaky.zero_grad();
    const auto text = message([&] { leaky.backward_from_output(x, dy, dx); });
    CHECK(contains(text, "invalid: batchnorm: expected a finite weight other than 0"));
    CHECK(contains(text, "in channel 2"));
    CHECK(leaky.weight_grad()(0) == 0);
  }
  leaky.weight()(2) = 1;
  leaky.bias()(2) = 4096;
  leaky.forward(x);
  CHECK_NOTHROW(leaky.backward_from_output(x, dy));
  CHECK(same_bits(dx, untouched));
  for (const double slope : {-0.1, std::numeric_limits<double>::infinity(), std::nan("")}) {
    CHECK(contains(message([&] { Activation::leaky_relu(slope); }),
                   "invalid: batchnorm: expected a finite slope of at least 0"));
  }
}

TEST_CASE("options keep their activation and their type through every setter") {
  const auto options = BatchNormOptions(4)
                           .epsilon(1e-3)
                           .activation(Activation::relu)
                           .momentum(0.5)
                           .decay(0.9)
                           .scale(true)
                           .shift(true)
                           .affine(true)
                           .track_running_stats(true)
                           .running_variance(batchnorm::Variance::biased)
                           .channel_axis(1)
                           .single_value(batchnorm::SingleValue::allow)
                           .epsilon(1e-4);
  STATIC_REQUIRE(std::is_same_v<std::remove_const_t<decltype(options)>, batchnorm::FusedBatchNormOptions>);
  CHECK(options.activation() == Activation::relu);
  CHECK(options.epsilon() == 1e-4);
  CHECK(options.activation(Activation::none).activation() == Activation::none);
  CHECK(BatchNormOptions(4).activation() == Activation::none);
  const BatchNormOptions sliced = options;
  CHECK(contains(message([&] { BatchNorm<float, 3> bn(sliced); }),
                 "invalid: batchnorm: expected options with an activation as activation(...) returned them"));
  // A copy of the layer has it too.
  BatchNorm<float, 3> bn(options), copy(4);
  copy = bn;
  Tensor<float> x(2, 4, 3);
  x.setRandom();
  CHECK(same_bits(copy.forward(x), bn.forward(x)));
  CHECK(Eigen::Tensor<float, 0, Eigen::RowMajor>(copy.infer(x).minimum())() >= 0);
}

TEST_CASE("any number type takes activations and residuals") {
  Random random(17);
  const std::array<Eigen::Index, 3> sizes{3, 4, 20};
  const auto x = random_tensor<double>(random, sizes), r = random_tensor<double>(random, sizes),
             dy = random_tensor<double>(random, sizes);
  BatchNorm<double, 3> bn(BatchNormOptions(4).activation(Activation::leaky_relu(0.2)));
  BatchNorm<long double, 3> wide(BatchNormOptions(4).activation(Activation::leaky_relu(0.2)));
  const Tensor<long double> wide_x = x.cast<long double>(), wide_r = r.cast<long double>(),
                            wide_dy = dy.cast<long double>();
  const auto y = bn.forward(x, residual(r));
  const auto wide_y = wide.forward(wide_x, residual(wide_r));
  const auto [dx, dr] = bn.backward(x, dy, output(y));
  const auto [wide_dx, wide_dr] = wide.backward(wide_x, wide_dy, output(wide_y));
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    REQUIRE(y.data()[i] == Approx(static_cast<double>(wide_y.data()[i])).margin(1e-13));
    REQUIRE(dx.data()[i] == Approx(static_cast<double>(wide_dx.data()[i])).margin(1e-13));
    REQUIRE(dr.data()[i] == Approx(static_cast<double>(wide_dr.data()[i])).margin(1e-13));
  }
}
