// FrozenBatchNorm: exact, whatever it is made of and whatever it is applied to.

#include <batchnorm/batchnorm.hpp>

#include <array>
#include <cmath>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __unix__
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "catch.hpp"
#include "duel.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::FrozenBatchNorm;
using Catch::Matchers::Message;
using Eigen::Index;

// The quantities of some channels, and the formula in long double.
template <class T>
struct Quantities {
  std::vector<T> weight, bias, mean, variance;
  double epsilon = 1e-3;

  explicit Quantities(Index channels, double offset = 0) {
    Random random(static_cast<std::uint64_t>(channels));
    for (Index c = 0; c < channels; ++c) {
      weight.push_back(static_cast<T>(random.uniform(-2, 2)));
      bias.push_back(static_cast<T>(random.uniform(-1, 1)));
      mean.push_back(static_cast<T>(random.uniform(-3, 3) + offset));
      variance.push_back(static_cast<T>(random.uniform(0.1, 4)));
    }
  }

  Index channels() const { return static_cast<Index>(weight.size()); }

  long double exact(Index channel, T x) const {
    const auto c = static_cast<std::size_t>(channel);
    const auto wide = [](T value) { return static_cast<long double>(value); };
    return (wide(x) - wide(mean[c])) / std::sqrt(wide(variance[c]) + static_cast<long double>(epsilon)) *
               wide(weight[c]) +
           wide(bias[c]);
  }

  template <class Frozen>
  Frozen frozen(int axis = 1) const {
    return Frozen(weight, bias, mean, variance, epsilon, axis);
  }
};

// Three roundings of terms of a few units: the difference is exact or off by half an ulp, the product and the sum too.
template <class T>
long double tolerance(long double exact) {
  return 4 * static_cast<long double>(std::numeric_limits<T>::epsilon()) * (1 + std::abs(exact));
}

template <class T>
void check_close(T y, long double exact) {
  CAPTURE(y, static_cast<double>(exact));
  REQUIRE(std::abs(static_cast<long double>(y) - exact) <= tolerance<T>(exact));
}

template <class T>
std::vector<T> numbers(Index size, double offset = 0) {
  Random random(7);
  std::vector<T> result;
  for (Index i = 0; i < size; ++i) result.push_back(static_cast<T>(random.uniform(-5, 5) + offset));
  return result;
}

// [outer, channels, inner] by pointers.
template <class T, int Channels>
void check_pointers(Index channels) {
  for (const double offset : {0.0, 1e5}) {
    const Quantities<T> q(channels, offset);
    const auto bn = q.template frozen<FrozenBatchNorm<T, Channels>>();
    const auto check = [&](Index outer, Index inner, const std::vector<T>& x, const std::vector<T>& y) {
      CAPTURE(channels, outer, inner, offset);
      for (Index i = 0; i < outer * channels * inner; ++i) {
        const auto k = static_cast<std::size_t>(i);
        check_close(y[k], q.exact(i / inner % channels, x[k]));
      }
      CHECK(y[x.size()] == T(99));  // nothing is written behind the end
    };
    const std::vector<T> sample = numbers<T>(channels, offset);
    std::vector<T> y(sample.size() + 1, T(99));
    bn.apply(sample.data(), y.data());
    check(1, 1, sample, y);
    for (const Index outer : {0, 1, 2, 3, 7}) {
      for (const Index inner : {1, 2, 5, 37, 100}) {
        const auto x = numbers<T>(outer * channels * inner, offset);
        y.assign(x.size() + 1, T(99));
        bn.apply(x.data(), y.data(), outer, inner);
        check(outer, inner, x, y);
        y.assign(x.begin(), x.end());
        y.push_back(T(99));
        bn.apply(y.data(), y.data(), outer, inner);
        check(outer, inner, x, y);
      }
    }
  }
}

// Every element of y is the exact one of x before, for the channel that `axis` says.
template <class X, class Y>
void check_matrix(const Quantities<float>& q, int axis, const X& x, const Y& y) {
  for (Index i = 0; i < x.rows(); ++i) {
    for (Index j = 0; j < x.cols(); ++j) check_close(y(i, j), q.exact(axis == 0 ? i : j, x(i, j)));
  }
}

Eigen::MatrixXf matrix(Index rows, Index cols) {
  const auto x = numbers<float>(rows * cols);
  return Eigen::Map<const Eigen::MatrixXf>(x.data(), rows, cols);
}

template <class Frozen>
std::vector<float> applied(const Frozen& bn, std::vector<float> x) {
  bn.apply(x.data(), x.data());
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("pointers to one sample or more give the exact result, in place or not", "", float, double) {
  for (const Index channels : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100}) {
    check_pointers<TestType, Eigen::Dynamic>(channels);
  }
  check_pointers<TestType, 1>(1);
  check_pointers<TestType, 3>(3);
  check_pointers<TestType, 13>(13);
  check_pointers<TestType, 16>(16);
}

TEST_CASE("a number is normalized to the same bits in a packet and alone") {
  const Quantities<float> q(1);
  const FrozenBatchNorm<float> bn = q.frozen<FrozenBatchNorm<float>>();
  const auto x = numbers<float>(53);
  std::vector<float> together(x.size()), alone(x.size());
  bn.apply(x.data(), together.data(), 1, 53);
  for (std::size_t i = 0; i < x.size(); ++i) bn.apply(&x[i], &alone[i]);
  CHECK(together == alone);
}

TEST_CASE("samples that no cache holds are exact too") {
  const Quantities<float> q(192);
  const auto bn = q.frozen<FrozenBatchNorm<float>>(0);
  const Eigen::MatrixXf x = matrix(192, 700);
  Eigen::MatrixXf y(192, 700);
  bn.apply(x, y);
  check_matrix(q, 0, x, y);
}

TEST_CASE("the 16-bit types and long double are computed in their accumulator") {
  const Quantities<float> q(5);
  const auto numbers_of_x = numbers<float>(15);
  SECTION("half") {
    const FrozenBatchNorm<Eigen::half> bn(q.weight, q.bias, q.mean, q.variance, q.epsilon);
    std::vector<Eigen::half> x, y(15);
    for (const float value : numbers_of_x) x.push_back(Eigen::half(value));
    bn.apply(x.data(), y.data(), 3, 1);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const auto exact = static_cast<double>(q.exact(static_cast<Index>(i % 5), static_cast<float>(x[i])));
      // Half an ulp of 2^-10, and what rounding to float first adds.
      CHECK(std::abs(static_cast<double>(static_cast<float>(y[i])) - exact) <=
            0.501 * std::ldexp(std::abs(exact), -10));
    }
  }
  SECTION("long double") {
    const FrozenBatchNorm<long double, 5> bn(q.weight, q.bias, q.mean, q.variance, q.epsilon);
    std::vector<long double> x(numbers_of_x.begin(), numbers_of_x.end()), y(15);
    bn.apply(x.data(), y.data(), 3, 1);
    for (std::size_t i = 0; i < x.size(); ++i) {
      check_close(y[i], q.exact(static_cast<Index>(i % 5), numbers_of_x[i]));
    }
  }
}

TEST_CASE("coefficients that a float cannot hold are applied in double") {
  // A scale of 1e45; and x - mean beyond the largest float, of which a small scale makes an ordinary number.
  const std::vector<double> weight{1e25, 1}, bias{0, 0}, mean{0, -3e38}, variance{1e-40, 1e76};
  const FrozenBatchNorm<float, 2> bn(weight, bias, mean, variance, 0);
  const float x[] = {1e-8f, 3e38f};
  float y[2];
  bn.apply(x, y);
  CHECK(std::abs(y[0] / 1e37f - 1) <= 1e-6f);
  CHECK(std::abs(y[1] - 6.0f) <= 1e-6f);
  const float small[] = {1e-30f, 0.0f};
  bn.apply(small, y);
  CHECK(std::abs(y[0] / 1e15f - 1) <= 1e-6f);  // 1e-30 * 1e25 / 1e-20
  CHECK(std::abs(y[1] - 3.0f) <= 1e-6f);
}

TEST_CASE("an x near a large mean keeps its digits, which the folded form loses") {
  const std::vector<float> absent;
  const std::vector<double> mean(3, 1e6 + 0.02), variance(3, 1e-4);
  const FrozenBatchNorm<float, 3> bn(absent, absent, mean, variance, 0);
  const float x[] = {1e6f, 1e6f + 0.0625f, 1e6f - 0.0625f};
  float y[3];
  bn.apply(x, y);
  float folded_error = 0;
  for (int i = 0; i < 3; ++i) {
    const long double exact = (static_cast<long double>(x[i]) - static_cast<long double>(mean[0])) * 100;
    check_close(y[i], exact);
    const float folded = bn.folded_scale()[i] * x[i] + bn.folded_shift()[i];
    folded_error = std::max(folded_error, std::abs(folded - static_cast<float>(exact)));
    CHECK(folded_error < 1e8f * 1.2e-7f);  // as documented: |mean| / std times 6e-8, for the scale and for the shift
  }
  CHECK(folded_error > 1);
}

TEST_CASE("inv_std is 0 where variance + epsilon is 0, and NaN where it is negative or NaN") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> weight(5, 2), bias(5, 3), mean(5, 1), variance{0, -1, nan, infinity, 1};
  const FrozenBatchNorm<float, 5> bn(weight, bias, mean, variance, 0);
  const float x[] = {7, 7, 7, 7, 7};
  float y[5];
  bn.apply(x, y);
  CHECK(y[0] == 3);
  CHECK(std::isnan(y[1]));
  CHECK(std::isnan(y[2]));
  CHECK(y[3] == 3);
  CHECK(y[4] == 15);
  CHECK(bn.folded_scale()[0] == 0);
  CHECK(std::isnan(bn.folded_scale()[1]));
}

TEST_CASE("each quantity may come in a range of its own kind and scalar") {
  const std::vector<float> x{1, 2, 3, 4}, absent;
  const FrozenBatchNorm<float> expected(std::vector<float>{1, 2, 3, 4}, std::vector<float>{4, 3, 2, 1},
                                        std::vector<float>{0, 1, 0, 1}, std::vector<float>{1, 4, 1, 4}, 0);
  const auto y = applied(expected, x);
  const std::vector<double> as_double{1, 2, 3, 4};
  const std::array<int, 4> as_array{{4, 3, 2, 1}};
  Eigen::Tensor<float, 1> as_tensor(4);
  as_tensor.setValues({0, 1, 0, 1});
  const Eigen::Vector4f as_vector(1, 4, 1, 4);
  CHECK(applied(FrozenBatchNorm<float>(as_double, as_array, as_tensor, as_vector, 0), x) == y);
  CHECK(applied(FrozenBatchNorm<float, 4>(as_double, as_array, as_tensor, as_vector, 0), x) == y);
  // Expressions, rows of matrices, which are not contiguous, and arrays.
  Eigen::MatrixXd rows(2, 4);
  rows << 0, 1, 0, 1, 1, 4, 1, 4;
  const float in_array[] = {4, 3, 2, 1};
  CHECK(applied(FrozenBatchNorm<float>(Eigen::VectorXf::LinSpaced(4, 1, 4), in_array, rows.row(0), rows.row(1), 0),
                x) == y);
  CHECK(applied(FrozenBatchNorm<float>(as_vector.cwiseSqrt() * 0 + Eigen::Vector4f(1, 2, 3, 4), as_array,
                                       rows.row(0).transpose(), as_vector.array() + 0, 0),
                x) == y);
  // A stream of floats that holds one quantity after another.
  const std::vector<float> stream{1, 2, 3, 4, 4, 3, 2, 1, 0, 1, 0, 1, 1, 4, 1, 4};
  const auto part = [&](Index i) { return Eigen::Map<const Eigen::VectorXf>(stream.data() + 4 * i, 4); };
  CHECK(applied(FrozenBatchNorm<float>(part(0), part(1), part(2), part(3), 0), x) == y);
  // And the setters, in any order.
  FrozenBatchNorm<float> later;
  CHECK(later.channels() == 0);
  later.set_running_var(part(3)).set_bias(as_array).set_epsilon(1).set_weight(as_double).set_running_mean(as_tensor);
  CHECK(later.channels() == 4);
  CHECK(applied(later, x) != y);
  CHECK(later.epsilon() == 1);
  CHECK(applied(later.set_epsilon(0), x) == y);
  FrozenBatchNorm<float, 4> fixed;
  fixed.set_running_var(part(3)).set_bias(as_array).set_weight(as_double).set_running_mean(as_tensor);
  CHECK(applied(fixed, x) == y);
}

TEST_CASE("what is absent is 1 or 0, and a default-made object is the identity") {
  const std::vector<float> x{1, -2, 3}, absent;
  CHECK(applied(FrozenBatchNorm<float>(3), x) == x);
  CHECK(applied(FrozenBatchNorm<float, 3>(), x) == x);
  CHECK(applied(FrozenBatchNorm<float, 3>(3), x) == x);
  CHECK(applied(FrozenBatchNorm<float, 3>(absent, absent, absent, absent, 0), x) == x);
  CHECK(applied(FrozenBatchNorm<float>(absent, std::vector<float>{1, 2, 3}, absent, absent, 0), x) ==
        std::vector<float>{2, 0, 6});
  FrozenBatchNorm<float> bn(3);
  bn.set_weight(std::vector<float>{2, 2, 2});
  CHECK(applied(bn, x) == std::vector<float>{2, -4, 6});
  CHECK(applied(bn.set_weight(absent), x) == x);
}

TEST_CASE("a frozen layer does what the layer infers, on its channel axis") {
  for (const int axis : {0, 1, 2, -1}) {
    BatchNorm<float, 3> layer(BatchNormOptions(3).channel_axis(axis).epsilon(0.5));
    layer.weight().setValues({1, 2, 3});
    layer.bias().setValues({4, 5, 6});
    layer.running_mean().setValues({-1, 1, 2});
    layer.running_var().setValues({1, 2, 3});
    const FrozenBatchNorm<float> dynamic = layer.frozen();
    const auto fixed = layer.frozen<3>();
    CHECK(dynamic.channel_axis() == axis);
    Eigen::Tensor<float, 3> x(3, 3, 3), y(3, 3, 3);
    Eigen::Tensor<float, 3, Eigen::RowMajor> row_major(3, 3, 3), z(3, 3, 3);
    x.setRandom();
    row_major.setRandom();
    const auto check = [](const auto& result, const auto& expected) {
      for (Index i = 0; i < result.size(); ++i) check_close(result.data()[i], expected.data()[i]);
    };
    dynamic.apply(x, y);
    check(y, layer.infer(x));
    fixed.apply(row_major, Eigen::TensorMap<decltype(z)>(z.data(), 3, 3, 3));
    check(z, layer.infer(row_major));
    const auto expected = layer.infer(x);
    Eigen::TensorFixedSize<float, Eigen::Sizes<3, 3, 3>> small;
    small = x;
    dynamic.apply(small, small, [](const auto& a) { return a * 2.0f; });
    for (Index i = 0; i < 27; ++i) check_close(small.data()[i], 2 * expected.data()[i]);
  }
}

TEST_CASE("a layer without scale and shift is frozen without them") {
  BatchNorm<double, 2> layer(BatchNormOptions(2).affine(false).epsilon(0));
  layer.running_mean().setValues({1, 2});
  layer.running_var().setValues({4, 16});
  const double x[] = {3, 6};
  double y[2];
  layer.frozen().apply(x, y);
  CHECK(y[0] == 1);
  CHECK(y[1] == 1);
}

TEST_CASE("dense objects of any strides are read and written in place, and no neighbour is touched") {
  const Quantities<float> q(5);
  const auto columns = q.frozen<FrozenBatchNorm<float>>(), rows = q.frozen<FrozenBatchNorm<float>>(0);
  const auto fixed = q.frozen<FrozenBatchNorm<float, 5>>(-2);
  SECTION("a whole matrix, and its columns and rows as arrays") {
    const Eigen::MatrixXf x = matrix(5, 11);
    Eigen::MatrixXf y(5, 11);
    rows.apply(x, y);
    check_matrix(q, 0, x, y);
    y.setZero();
    fixed.apply(x.array(), y.array());
    check_matrix(q, 0, x, y);
    Eigen::MatrixXf z(11, 5);
    columns.apply(Eigen::MatrixXf(x.transpose()), z);
    check_matrix(q, 1, x.transpose(), z);
  }
  SECTION("blocks") {
    const Eigen::MatrixXf x = matrix(9, 12);
    Eigen::MatrixXf y = Eigen::MatrixXf::Constant(9, 12, 7);
    rows.apply(x.block(2, 3, 5, 4), y.block(2, 3, 5, 4));
    check_matrix(q, 0, x.block(2, 3, 5, 4), y.block(2, 3, 5, 4));
    y.block(2, 3, 5, 4).setConstant(7);
    CHECK((y.array() == 7).all());
    columns.apply(x.middleCols(1, 5), y.middleCols(1, 5));
    check_matrix(q, 1, x.middleCols(1, 5), y.middleCols(1, 5));
    columns.apply(x.block(2, 3, 4, 5), y.block(2, 3, 4, 5));
    check_matrix(q, 1, x.block(2, 3, 4, 5), y.block(2, 3, 4, 5));
  }
  SECTION("row-major, in place") {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Matrix x = matrix(5, 9);
    Matrix y = x;
    rows.apply(y, y);
    check_matrix(q, 0, x, y);
    Matrix z = x.leftCols(5);
    columns.apply(z, z);
    check_matrix(q, 1, x.leftCols(5), z);
  }
  SECTION("maps, references and inner strides") {
    const auto memory = numbers<float>(200);
    std::vector<float> result(200, 7);
    using Strided = Eigen::Map<Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, 3>>;
    using StridedIn = Eigen::Map<const Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, 3>>;
    const StridedIn x(memory.data(), 5, 4, {20, 3});
    Strided y(result.data(), 5, 4, {25, 3});
    rows.apply(x, y);
    check_matrix(q, 0, x, y);
    y.setConstant(7);
    CHECK(result == std::vector<float>(200, 7));
    Eigen::MatrixXf z(5, 4);
    Eigen::Ref<Eigen::MatrixXf> reference(z);
    fixed.apply(x, reference);
    check_matrix(q, 0, x, z);
  }
  SECTION("what is a vector at compile time is one sample") {
    const Eigen::MatrixXf x = matrix(5, 5);
    Eigen::MatrixXf y = x;
    rows.apply(y.col(2), y.col(2));
    columns.apply(x.col(0), y.col(0));
    check_matrix(q, 0, x.col(2), y.col(2));
    check_matrix(q, 0, x.col(0), y.col(0));
    y = x;
    rows.apply(x.row(3), y.row(3));  // of a column-major matrix: five numbers apart
    check_matrix(q, 1, x.row(3), y.row(3));
  }
  SECTION("one channel, whose samples are neighbours") {
    const Quantities<float> one(1);
    const auto bn = one.frozen<FrozenBatchNorm<float>>(0);
    const Eigen::MatrixXf x = matrix(1, 23);
    Eigen::MatrixXf y(1, 23);
    bn.apply(x, y);
    check_matrix(one, 0, x, y);
  }
}

TEST_CASE("an activation is applied to the normalized numbers, by pointers, dense objects and tensors") {
  const Quantities<float> q(6);
  const auto bn = q.frozen<FrozenBatchNorm<float>>(0);
  const auto tanh = [](const auto& a) { return a.tanh(); };
  const auto swish = [](const auto& a) { return a / (1 + (-a).exp()); };
  const auto exact_tanh = [](long double v) { return std::tanh(v); };
  const auto exact_swish = [](long double v) { return v / (1 + std::exp(-v)); };
  // 1e-6: Eigen's own approximations are a few ulps off.
  const auto near = [](float y, long double exact) { CHECK(std::abs(static_cast<long double>(y) - exact) <= 4e-6L); };
  const auto x = numbers<float>(6 * 40);
  std::vector<float> y(x.size());
  const auto check = [&](Index inner, const auto& exact) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      near(y[i], exact(q.exact(static_cast<Index>(i) / inner % 6, x[i])));
    }
  };
  for (const Index inner : {1, 2, 10, 40}) {
    bn.apply(x.data(), y.data(), 40 / inner, inner, tanh);
    check(inner, exact_tanh);
    y = x;
    bn.apply(y.data(), y.data(), 40 / inner, inner, swish);
    check(inner, exact_swish);
  }
  q.frozen<FrozenBatchNorm<float, 6>>().apply(x.data(), y.data(), swish);
  for (std::size_t i = 0; i < 6; ++i) near(y[i], exact_swish(q.exact(static_cast<Index>(i), x[i])));
  Eigen::MatrixXf matrix_x = Eigen::Map<const Eigen::MatrixXf>(x.data(), 6, 40), matrix_y = matrix_x;
  bn.apply(matrix_y.middleCols(3, 20), matrix_y.middleCols(3, 20), tanh);
  for (Index j = 0; j < 40; ++j) {
    for (Index i = 0; i < 6; ++i) {
      const bool inside = j >= 3 && j < 23;
      near(matrix_y(i, j), inside ? exact_tanh(q.exact(i, matrix_x(i, j))) : static_cast<long double>(matrix_x(i, j)));
    }
  }
  Eigen::Tensor<float, 3, Eigen::RowMajor> tensor(2, 6, 20);
  std::copy(x.begin(), x.end(), tensor.data());
  FrozenBatchNorm<float>(bn).set_channel_axis(1).apply(tensor, tensor, swish);
  std::copy_n(tensor.data(), y.size(), y.begin());
  check(20, exact_swish);
}

TEST_CASE(
    "an activation may have a slope for each channel: its rows are channels, but for a matrix of samples in rows") {
  const Quantities<float> q(3);
  const Eigen::ArrayXf slopes = Eigen::Array3f(0.1f, 0.2f, 0.3f);
  const auto leaky = [&](const auto& a) { return (a > 0).select(a, a.colwise() * slopes); };
  const auto exact = [&](Index c, float value) {
    const long double v = q.exact(c, value);
    return v > 0 ? v : v * static_cast<long double>(slopes[c]);
  };
  const auto x = numbers<float>(3 * 4000);
  std::vector<float> y(x.size());
  const auto bn = q.frozen<FrozenBatchNorm<float>>(0);
  for (const Index inner : {1, 2, 1000, 4000}) {
    bn.apply(x.data(), y.data(), 4000 / inner, inner, leaky);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Index c = static_cast<Index>(i) / inner % 3;
      check_close(y[i], exact(c, x[i]));
    }
  }
  Eigen::ArrayXXf a = matrix(3, 8), b = a;
  bn.apply(a, b, leaky);
  for (Index i = 0; i < 24; ++i) check_close(b(i), exact(i % 3, a(i)));
  Eigen::MatrixXf samples = matrix(8, 3), result = samples;
  FrozenBatchNorm<float, 3>(q.frozen<FrozenBatchNorm<float, 3>>()).apply(samples, result, [&](const auto& v) {
    return (v > 0).select(v, v.rowwise() * slopes.transpose());
  });
  for (Index i = 0; i < 24; ++i) check_close(result(i), exact(i / 8, samples(i)));
  bn.apply(x.data(), y.data(), [&](const auto& v) { return (v > 0).select(v, v * slopes); });
  for (std::size_t i = 0; i < 3; ++i) check_close(y[i], exact(static_cast<Index>(i), x[i]));
}

TEST_CASE("constructors and setters say what was expected and what came, and change nothing") {
  const std::vector<float> three(3, 1), four(4, 1), absent;
  const auto check = [](const std::string& message, const auto& call) {
    CHECK_THROWS_MATCHES(call(), std::invalid_argument, Message("batchnorm: " + message));
  };
  using Dynamic = FrozenBatchNorm<float>;
  using Fixed = FrozenBatchNorm<float, 3>;
  check("expected bias of size 3, got 4", [&] { Dynamic(three, four, three, three, 0); });
  check("expected running_var of size 4, got 3", [&] { Dynamic(absent, four, absent, three, 0); });
  check("expected weight of size 3, got 4", [&] { Fixed(four, absent, absent, absent, 0); });
  check("expected a finite epsilon of at least 0, got -1", [&] { Dynamic(three, three, three, three, -1); });
  check("expected a finite epsilon of at least 0, got inf",
        [&] { Dynamic(3).set_epsilon(std::numeric_limits<double>::infinity()); });
  check("expected a finite epsilon of at least 0, got nan",
        [&] { Dynamic(3).set_epsilon(std::numeric_limits<double>::quiet_NaN()); });
  check("expected at least 1 channel, got 0", [] { Dynamic(0); });
  check("expected 3 channels, got 4", [] { Fixed(4); });
  check("expected a value for each channel in weight, bias, mean or variance, got four empty ranges",
        [&] { Dynamic(absent, absent, absent, absent, 0); });
  check("expected weight as a vector, got a matrix of 3 rows and 2 columns",
        [] { Dynamic(3).set_weight(Eigen::MatrixXf::Ones(3, 2)); });
  Dynamic bn(three, absent, absent, absent, 0);
  check("expected running_mean of size 3, got 4", [&] { bn.set_running_mean(four); });
  CHECK(applied(bn, {1, 2, 3}) == std::vector<float>{1, 2, 3});
}

TEST_CASE("a layer without running statistics cannot be frozen, nor one whose state has another size") {
  BatchNorm<float, 2> layer(BatchNormOptions(3).track_running_stats(false));
  CHECK_THROWS_MATCHES(
      layer.frozen(), std::logic_error,
      Message("batchnorm: expected a layer with running statistics to freeze, got one of track_running_stats(false)"));
  BatchNorm<float, 2> other(3);
  CHECK_THROWS_MATCHES(other.frozen<4>(), std::invalid_argument,
                       Message("batchnorm: expected weight of size 4, got 3"));
  other.bias().resize(2);
  CHECK_THROWS_MATCHES(other.frozen(), std::invalid_argument, Message("batchnorm: expected bias of size 3, got 2"));
  const auto moved = std::move(other);
  CHECK_THROWS_AS(other.frozen(), std::logic_error);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("apply is noexcept in all its forms") {
  const FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf x;
  Eigen::Tensor<float, 3> t;
  const auto f = [](const auto& a) { return a.tanh(); };
  float sample[3];
  CHECK(noexcept(bn.apply(sample, sample)));
  CHECK(noexcept(bn.apply(sample, sample, f)));
  CHECK(noexcept(bn.apply(sample, sample, 1, 1)));
  CHECK(noexcept(bn.apply(sample, sample, 1, 1, f)));
  CHECK(noexcept(bn.apply(x, x)));
  CHECK(noexcept(bn.apply(x, x, f)));
  CHECK(noexcept(bn.apply(t, t)));
  CHECK(noexcept(bn.apply(t, t, f)));
}

TEST_CASE("objects of compile-time size need no alignment, so that new and containers may hold them in C++14 too") {
  CHECK(alignof(FrozenBatchNorm<float, 16>) <= alignof(std::max_align_t));
  CHECK(alignof(FrozenBatchNorm<double, 8>) <= alignof(std::max_align_t));
}

#if defined(__unix__) && !defined(NDEBUG)
TEST_CASE("a wrong shape is an assertion of Eigen's, which ends the program") {
  const FrozenBatchNorm<float> bn(3);
  const auto ends = [](const auto& call) {
    const pid_t child = fork();
    if (child == 0) {
      std::fclose(stderr);
      std::signal(SIGABRT, SIG_DFL);
      call();
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  };
  Eigen::MatrixXf right(2, 3), transposed(3, 2), longer(4, 3);
  const Eigen::VectorXf vector_x = Eigen::VectorXf::Zero(4);
  Eigen::VectorXf vector(4);
  Eigen::Tensor<float, 3> tensor(2, 3, 4), wide(2, 4, 3);
  CHECK_FALSE(ends([&] { bn.apply(right, right); }));
  CHECK(ends([&] { bn.apply(transposed, transposed); }));
  CHECK(ends([&] { bn.apply(right, longer); }));
  CHECK(ends([&] { bn.apply(vector_x, vector); }));
  CHECK_FALSE(ends([&] { bn.apply(tensor, tensor); }));
  CHECK(ends([&] { bn.apply(wide, wide); }));
  CHECK(ends([&] { bn.apply(tensor, wide); }));
  CHECK(ends([&] { FrozenBatchNorm<float>(3).set_channel_axis(2).apply(right, right); }));
  CHECK(ends([&] { FrozenBatchNorm<float>(3).set_channel_axis(-4).apply(tensor, tensor); }));
}
#endif

namespace {

// y = act(bn(x) + r) for one channel of weight 2, mean 1 and variance 4, number by number.
float by_hand(float x, float r, float slope) {
  const float v = (x - 1) * 1.0f + r;
  return v > 0 ? v : slope * v;
}

}  // namespace

TEST_CASE("a frozen normalization adds a residual and has an activation, however the data are held") {
  for (const float slope : {0.0f, 0.25f, 1.0f}) {
    batchnorm::FrozenBatchNorm<float> bn(std::vector<float>(3, 2), std::vector<float>(), std::vector<float>(3, 1),
                                         std::vector<float>(3, 4), 0, 1);
    bn.set_activation(batchnorm::Activation::leaky_relu(slope));
    CHECK(bn.activation() == batchnorm::Activation::leaky_relu(slope));
    Eigen::MatrixXf x = 5 * Eigen::MatrixXf::Random(7, 3), r = Eigen::MatrixXf::Random(7, 3), y(7, 3);
    const auto check = [&](const auto& result, bool with_residual, float factor) {
      for (Eigen::Index i = 0; i < 7; ++i) {
        for (Eigen::Index c = 0; c < 3; ++c) {
          REQUIRE(result(i, c) == factor * by_hand(x(i, c), with_residual ? r(i, c) : 0, slope));
        }
      }
    };
    const auto twice = [](const auto& a) { return a * 2.0f; };
    bn.apply(x, y);
    check(y, false, 1);
    bn.apply(x, y, batchnorm::residual(r));
    check(y, true, 1);
    bn.apply(x, y, batchnorm::residual(r), twice);
    check(y, true, 2);
    bn.apply(x, y, twice);
    check(y, false, 2);
    bn.apply(x.topRows(7), y.topRows(7), batchnorm::residual(r.topRows(7)));
    check(y, true, 1);
    Eigen::MatrixXf in_place = x;
    bn.apply(in_place, in_place, batchnorm::residual(r));
    check(in_place, true, 1);

    // Columns of a matrix as [1, channels, inner], its transpose as [outer, channels, 1].
    const float* added = r.data();
    y.setZero();
    bn.apply(x.data(), y.data(), 1, 7, batchnorm::residual(added));
    check(y, true, 1);
    bn.apply(x.data(), y.data(), 1, 7);
    check(y, false, 1);
    const Eigen::MatrixXf rows = x.transpose(), rows_added = r.transpose();
    Eigen::MatrixXf out(3, 7);
    added = rows_added.data();
    bn.apply(rows.data(), out.data(), 7, 1, batchnorm::residual(added), twice);
    check(out.transpose(), true, 2);
    for (Eigen::Index n = 0; n < 7; ++n) {
      const float* const sample = added + 3 * n;
      bn.apply(rows.data() + 3 * n, out.data() + 3 * n, batchnorm::residual(sample));
    }
    check(out.transpose(), true, 1);
    for (Eigen::Index n = 0; n < 7; ++n) bn.apply(rows.data() + 3 * n, out.data() + 3 * n);
    check(out.transpose(), false, 1);

    Eigen::Tensor<float, 3> t(7, 3, 1), tr(7, 3, 1), ty(7, 3, 1);
    std::copy_n(x.data(), 21, t.data());
    std::copy_n(r.data(), 21, tr.data());
    bn.apply(t, ty, batchnorm::residual(tr));
    check(Eigen::Map<const Eigen::MatrixXf>(ty.data(), 7, 3), true, 1);
    bn.apply(t, ty);
    check(Eigen::Map<const Eigen::MatrixXf>(ty.data(), 7, 3), false, 1);
  }
}

TEST_CASE("a frozen relu keeps NaN and makes +0 of -0 and of what is below") {
  batchnorm::FrozenBatchNorm<float, 4> bn;
  bn.set_activation(batchnorm::Activation::relu);
  const float x[] = {std::numeric_limits<float>::quiet_NaN(), -0.0f, -1, -std::numeric_limits<float>::infinity()};
  float y[4];
  bn.apply(x, y);
  CHECK(std::isnan(y[0]));
  for (int i = 1; i < 4; ++i) {
    CHECK(y[i] == 0);
    CHECK_FALSE(std::signbit(y[i]));
  }
  STATIC_REQUIRE(noexcept(bn.apply(x, y)));
  const float* const r = x;
  STATIC_REQUIRE(noexcept(bn.apply(x, y, batchnorm::residual(r))));
}

TEST_CASE("frozen() hands the activation on") {
  batchnorm::BatchNorm<float, 3> layer(batchnorm::BatchNormOptions(3).activation(batchnorm::Activation::relu));
  Eigen::Tensor<float, 3, Eigen::RowMajor> x(4, 3, 5), r(4, 3, 5), y(4, 3, 5);
  x.setRandom();
  r.setRandom();
  layer.forward(x);
  const auto frozen = layer.frozen();
  CHECK(frozen.activation() == batchnorm::Activation::relu);
  frozen.apply(x, y, batchnorm::residual(r));
  const Eigen::Tensor<float, 3, Eigen::RowMajor> z = layer.infer(x, batchnorm::residual(r));
  for (Eigen::Index i = 0; i < x.size(); ++i) REQUIRE(y.data()[i] == Approx(z.data()[i]).margin(1e-6));
}

TEST_CASE("a mask makes what it is 0 for 0, after the residual, the activation and f, in every order of memory") {
  const auto f = [](const auto& a) { return a + 1; };
  const auto check = [&](auto layout, int axis) {
    using Tensor = Eigen::Tensor<float, 4, decltype(layout)::value>;
    batchnorm::FrozenBatchNorm<float> bn(std::vector<float>{2, 3}, std::vector<float>{1, -1},
                                         std::vector<float>{0.5f, 0}, std::vector<float>{1, 4}, 0, axis);
    bn.set_activation(batchnorm::Activation::relu);
    std::array<Index, 4> sizes = {3, 4, 5, 6};
    sizes[static_cast<std::size_t>(axis)] = 2;
    const std::size_t sample_axis = axis == 0 ? 3 : 0;
    Tensor x(sizes), r(sizes), y(sizes), plain(sizes);
    x.setRandom();
    r.setRandom();
    std::array<Index, 3> without{};
    for (std::size_t i = 0, k = 0; i < 4; ++i) {
      if (static_cast<int>(i) != axis) without[k++] = sizes[i];
    }
    Eigen::Tensor<bool, 3, decltype(layout)::value> positions(without);
    std::vector<int> samples;
    for (Index i = 0; i < positions.size(); ++i) positions.data()[i] = i % 3 != 1;
    for (Index n = 0; n < sizes[sample_axis]; ++n) samples.push_back(n % 2 == 0 ? 1 : 0);
    bn.apply(x, plain, batchnorm::residual(r), f);
    const auto compare = [&](const auto& lets_through) {
      std::array<Index, 4> i{};
      for (i[0] = 0; i[0] < sizes[0]; ++i[0]) {
        for (i[1] = 0; i[1] < sizes[1]; ++i[1]) {
          for (i[2] = 0; i[2] < sizes[2]; ++i[2]) {
            for (i[3] = 0; i[3] < sizes[3]; ++i[3]) REQUIRE(y(i) == (lets_through(i) ? plain(i) : 0));
          }
        }
      }
    };
    bn.apply(x, y, batchnorm::residual(r), batchnorm::mask(samples), f);
    compare([&](const auto& i) { return samples[static_cast<std::size_t>(i[sample_axis])] == 1; });
    bn.apply(x, y, batchnorm::mask(positions), batchnorm::residual(r), f);
    compare([&](const auto& i) {
      std::array<Index, 3> place{};
      for (std::size_t d = 0, k = 0; d < 4; ++d) {
        if (static_cast<int>(d) != axis) place[k++] = i[d];
      }
      return positions(place);
    });
    STATIC_REQUIRE(noexcept(bn.apply(x, y, batchnorm::mask(positions))));
  };
  for (const int axis : {0, 1, 2, 3}) {
    check(std::integral_constant<int, Eigen::RowMajor>(), axis);
    check(std::integral_constant<int, Eigen::ColMajor>(), axis);
  }
}

TEST_CASE("matrices, vectors and pointers take a mask as tensors do") {
  batchnorm::FrozenBatchNorm<float> bn(3);
  Eigen::MatrixXf big = Eigen::MatrixXf::Random(9, 6), y = Eigen::MatrixXf::Ones(9, 6);
  Eigen::Array<bool, Eigen::Dynamic, 1> m(5);
  m << true, false, true, true, false;
  bn.apply(big.block(1, 2, 5, 3), y.block(1, 2, 5, 3), batchnorm::mask(m));
  for (Index i = 0; i < 9; ++i) {
    for (Index j = 0; j < 6; ++j) {
      const bool inside = i >= 1 && i < 6 && j >= 2 && j < 5;
      REQUIRE(y(i, j) == (!inside ? 1 : m(i - 1) ? big(i, j) : 0));
    }
  }
  const std::array<int, 3> through = {0, 1, 0};
  const float x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  float out[9];
  bn.apply(x, out, 3, 1, batchnorm::mask(through));  // three samples of three channels
  for (int i = 0; i < 9; ++i) CHECK(out[i] == (i / 3 == 1 ? x[i] : 0));
  bn.apply(x, out, 1, 3, batchnorm::mask(through));  // three positions of each channel
  for (int i = 0; i < 9; ++i) CHECK(out[i] == (i % 3 == 1 ? x[i] : 0));
  const Eigen::VectorXf sample = Eigen::VectorXf::Random(3);
  Eigen::VectorXf masked(3);
  bn.apply(sample, masked, batchnorm::mask(std::vector<bool>{false}));
  CHECK(masked == Eigen::VectorXf::Zero(3));
}
