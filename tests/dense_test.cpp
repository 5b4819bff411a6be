// Matrices, arrays, vectors, maps and blocks of Eigen's where tensors of rank 2 are taken. What a layer computes of a
// tensor has tests of its own; here a matrix must give the bits of the tensor that holds the same values in the same
// order, wherever in memory its columns lie.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"

namespace {

using Eigen::ColMajor;
using Eigen::Dynamic;
using Eigen::RowMajor;

template <class T, int Order>
using Matrix = Eigen::Matrix<T, Dynamic, Dynamic, Order>;
template <class T, int Order>
using Tensor = Eigen::Tensor<T, 2, Order>;

/// A matrix of random values somewhere in a larger one, whose other elements are to stay as they are.
template <class T, int Order>
class Held {
 public:
  Held(Random& random, Eigen::Index rows, Eigen::Index cols, Eigen::Index gap)
      : parent_(rows + gap, cols + gap), row_(gap / 2), col_(gap / 3), rows_(rows), cols_(cols) {
    for (Eigen::Index i = 0; i < parent_.size(); ++i) parent_.data()[i] = static_cast<T>(random.uniform(-2, 3));
    before_ = parent_;
  }

  auto block() { return parent_.block(row_, col_, rows_, cols_); }
  /// The same values as a tensor.
  Tensor<T, Order> tensor() const {
    Tensor<T, Order> result(rows_, cols_);
    for (Eigen::Index r = 0; r < rows_; ++r) {
      for (Eigen::Index c = 0; c < cols_; ++c) result(r, c) = parent_(row_ + r, col_ + c);
    }
    return result;
  }
  bool neighbours_are_untouched() const {
    for (Eigen::Index r = 0; r < parent_.rows(); ++r) {
      for (Eigen::Index c = 0; c < parent_.cols(); ++c) {
        const bool inside = r >= row_ && r < row_ + rows_ && c >= col_ && c < col_ + cols_;
        if (!inside && std::memcmp(&parent_(r, c), &before_(r, c), sizeof(T)) != 0) return false;
      }
    }
    return true;
  }

 private:
  Matrix<T, Order> parent_, before_;
  Eigen::Index row_, col_, rows_, cols_;
};

template <class X, class Y>
bool same_bits(const X& x, const Y& y) {
  return x.size() == y.size() &&
         std::memcmp(x.data(), y.data(), sizeof(*x.data()) * static_cast<std::size_t>(x.size())) == 0;
}

// The same where a number has bytes that are no part of it.
template <class X, class Y>
bool same_values(const X& x, const Y& y) {
  return x.size() == y.size() && std::equal(x.data(), x.data() + x.size(), y.data());
}

/// What else a layer holds after its calls.
template <class Layer>
bool same_state(const Layer& a, const Layer& b) {
  return same_bits(a.running_mean(), b.running_mean()) && same_bits(a.running_var(), b.running_var()) &&
         same_bits(a.weight_grad(), b.weight_grad()) && same_bits(a.bias_grad(), b.bias_grad()) &&
         same_bits(a.saved_statistics().mean(), b.saved_statistics().mean()) &&
         same_bits(a.saved_statistics().inv_std(), b.saved_statistics().inv_std());
}

template <class T>
batchnorm::BatchNorm<T, 2> layer_of(const batchnorm::BatchNormOptions& options) {
  batchnorm::BatchNorm<T, 2> bn(options);
  for (Eigen::Index c = 0; c < bn.weight().size(); ++c) {
    bn.weight()(c) = static_cast<typename batchnorm::BatchNorm<T, 2>::Param>(0.5 + 0.25 * static_cast<double>(c % 7));
    bn.bias()(c) = static_cast<typename batchnorm::BatchNorm<T, 2>::Param>(0.125 * static_cast<double>(c % 5) - 0.25);
  }
  return bn;
}

/// Every call on a matrix in memory with gaps, and the same on tensors.
template <class T, int Order, class Device>
void check_calls(const Device& device, Random& random, Eigen::Index rows, Eigen::Index cols, int axis) {
  INFO(rows << " x " << cols << (Order == RowMajor ? " RowMajor" : " ColMajor") << ", channels on axis " << axis);
  const auto gap = [&] { return random.integer(0, 1) * random.integer(0, 70); };
  Held<T, Order> x(random, rows, cols, gap()), dy(random, rows, cols, gap());
  Held<T, Order> y(random, rows, cols, gap()), dx(random, rows, cols, gap());
  const auto x_tensor = x.tensor(), dy_tensor = dy.tensor();
  Tensor<T, Order> y_tensor(rows, cols), dx_tensor(rows, cols);
  const Eigen::Index channels = axis == 0 ? rows : cols;
  const auto options =
      batchnorm::BatchNormOptions(channels).channel_axis(axis).single_value(batchnorm::SingleValue::allow);
  auto dense = layer_of<T>(options), tensors = dense;

  dense.forward(device, x.block(), y.block());
  tensors.forward(device, x_tensor, y_tensor);
  CHECK(same_bits(y.tensor(), y_tensor));
  dense.backward(device, x.block(), dy.block(), dx.block());
  tensors.backward(device, x_tensor, dy_tensor, dx_tensor);
  CHECK(same_bits(dx.tensor(), dx_tensor));
  CHECK(same_state(dense, tensors));
  CHECK(same_bits(dense.forward(device, x.block()), tensors.forward(device, x_tensor)));
  CHECK(same_bits(dense.backward(device, x.block(), dy.block()), tensors.backward(device, x_tensor, dy_tensor)));
  CHECK(same_bits(dense.infer(device, x.block()), tensors.infer(device, x_tensor)));
  std::as_const(dense).infer(device, x.block(), y.block());
  CHECK(same_bits(y.tensor(), std::as_const(tensors).infer(device, x_tensor)));

  const auto untracked = layer_of<T>(batchnorm::BatchNormOptions(options).track_running_stats(false));
  untracked.infer(device, x.block(), y.block());
  CHECK(same_bits(y.tensor(), untracked.infer(device, x_tensor)));

  dense.eval().forward(device, x.block(), y.block());
  tensors.eval().forward(device, x_tensor, y_tensor);
  CHECK(same_bits(y.tensor(), y_tensor));
  dense.backward(device, x.block(), dy.block(), dx.block());
  tensors.backward(device, x_tensor, dy_tensor, dx_tensor);
  CHECK(same_bits(dx.tensor(), dx_tensor));
  CHECK(same_state(dense, tensors));

  batchnorm::Moments moments(channels), of_tensor(channels);
  moments.add(device, x.block(), axis);
  of_tensor.add(device, x_tensor, axis);
  CHECK(same_bits(moments.mean(), of_tensor.mean()));
  CHECK(same_bits(moments.mean_residual(), of_tensor.mean_residual()));
  CHECK(same_bits(moments.M2(), of_tensor.M2()));

  dense.train().forward(device, x.block(), x.block());
  tensors.train().forward(device, x_tensor, y_tensor);
  CHECK(same_bits(x.tensor(), y_tensor));
  dense.backward(device, x.block(), dy.block(), dy.block());
  tensors.backward(device, y_tensor, dy_tensor, dx_tensor);
  CHECK(same_bits(dy.tensor(), dx_tensor));

  for (const auto* held : {&x, &dy, &y, &dx}) CHECK(held->neighbours_are_untouched());
}

template <class T, class Device>
void check_calls(const Device& device, Random& random, Eigen::Index samples, Eigen::Index channels) {
  check_calls<T, ColMajor>(device, random, samples, channels, 1);
  check_calls<T, RowMajor>(device, random, samples, channels, 1);
  check_calls<T, ColMajor>(device, random, channels, samples, 0);
  check_calls<T, RowMajor>(device, random, channels, samples, 0);
}

}  // namespace

TEMPLATE_TEST_CASE("a block of a matrix gives the bits of the tensor with its values, and its neighbours stay", "",
                   float, double, Eigen::half, Eigen::bfloat16) {
  Random random(20);
  const Eigen::DefaultDevice device;
  // Numbers of samples and channels at which another way through the kernels begins, and what lies between.
  for (const Eigen::Index samples : {1, 2, 7, 8, 15, 16, 17, 33, 130, 700}) {
    for (const Eigen::Index channels : {1, 2, 3, 8, 16, 21, 63, 64, 65, 130, 1025}) {
      if (samples * channels <= 100000) check_calls<TestType>(device, random, samples, channels);
    }
  }
  for (int i = 0; i < 60; ++i) {
    check_calls<TestType>(device, random, random.integer(1, 200), random.integer(1, 200));
  }
}

TEMPLATE_TEST_CASE("blocks of matrices give the same bits on threads", "[large]", float, double) {
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  Random random(21);
  check_calls<TestType>(device, random, 5000, 100);
  check_calls<TestType>(device, random, 12000, 40);
  check_calls<TestType>(device, random, 12, 40000);
  check_calls<TestType>(device, random, 300, 1500);
}

TEST_CASE("results of large blocks go past the cache to the same bits") {
  Random random(22);
  check_calls<float, ColMajor>(Eigen::DefaultDevice(), random, 3000, 700, 1);
  check_calls<float, RowMajor>(Eigen::DefaultDevice(), random, 3000, 700, 1);
}

TEST_CASE("sums that are taken anew have the bits of the tensor's in blocks of matrices") {
  // A channel that begins near 0 and goes on far from it, and a constant one: short sums are not sound of either.
  for (const Eigen::Index channels : {3, 70}) {
    for (const Eigen::Index samples : {9, 200}) {
      Matrix<float, RowMajor> rows(samples, channels + 5);
      Matrix<float, ColMajor> columns(samples + 5, channels);
      Tensor<float, RowMajor> rows_tensor(samples, channels);
      Tensor<float, ColMajor> columns_tensor(samples, channels);
      for (Eigen::Index n = 0; n < samples; ++n) {
        for (Eigen::Index c = 0; c < channels; ++c) {
          const float value = c % 3 == 0 ? 1e-40f : c % 3 == 1 ? (n % 4 == 1 ? 1e6f : 1.0f) + static_cast<float>(n) : 5;
          rows(n, c) = columns(n, c) = rows_tensor(n, c) = columns_tensor(n, c) = value;
        }
      }
      batchnorm::BatchNorm<float, 2> bn(channels);
      CHECK(same_bits(bn.forward(rows.leftCols(channels)), bn.forward(rows_tensor)));
      CHECK(same_bits(bn.forward(columns.topRows(samples)), bn.forward(columns_tensor)));
    }
  }
}

TEST_CASE("any number type takes matrices as it takes tensors") {
  Random random(23);
  for (const Eigen::Index samples : {1, 5, 40}) {
    for (const Eigen::Index channels : {1, 6, 40}) {
      Held<long double, RowMajor> x(random, samples, channels, 7), y(random, samples, channels, 9);
      Held<long double, ColMajor> u(random, samples, channels, 7), v(random, samples, channels, 9);
      batchnorm::BatchNorm<long double, 2> bn(
          batchnorm::BatchNormOptions(channels).single_value(batchnorm::SingleValue::allow));
      bn.forward(x.block(), y.block());
      CHECK(same_values(y.tensor(), bn.forward(x.tensor())));
      bn.forward(u.block(), v.block());
      CHECK(same_values(v.tensor(), bn.forward(u.tensor())));
    }
  }
}

TEST_CASE("every kind of dense object is taken, and the result is its plain type") {
  Random random(24);
  Eigen::MatrixXf x(8, 5);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 1));
  const Eigen::Matrix<float, Dynamic, Dynamic, RowMajor> rows = x;
  batchnorm::BatchNorm<float, 2> bn(5);
  const Eigen::MatrixXf expected = bn.forward(x);
  const auto check = [&](const auto& input, auto plain) {
    using Plain = decltype(plain);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.forward(input)), Plain>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.infer(input)), Plain>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.backward(input, input)), Plain>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.forward(Eigen::DefaultDevice(), input)), Plain>);
    const Plain y = bn.forward(input);
    CHECK((y.matrix() - expected).cwiseAbs().maxCoeff() <= 2e-7f);  // the order of summation may differ
    bn.backward(input, input);
  };
  check(x, Eigen::MatrixXf());
  check(x.array(), Eigen::ArrayXXf());
  check(Eigen::ArrayXXf(x), Eigen::ArrayXXf());
  check(rows, Matrix<float, RowMajor>());
  check(Eigen::Ref<const Eigen::MatrixXf>(x), Eigen::MatrixXf());
  check(Eigen::Ref<Eigen::MatrixXf>(x), Eigen::MatrixXf());
  check(Eigen::Map<const Eigen::MatrixXf>(x.data(), 8, 5), Eigen::MatrixXf());
  check(Eigen::Map<const Matrix<float, RowMajor>>(rows.data(), 8, 5), Matrix<float, RowMajor>());
  check(x * Eigen::MatrixXf::Identity(5, 5), Eigen::MatrixXf());
  check(x + Eigen::MatrixXf::Zero(8, 5), Eigen::MatrixXf());
  check(Eigen::Matrix<float, 8, 5>(x), Eigen::Matrix<float, 8, 5>());
  check(Eigen::Matrix<float, 8, 5, RowMajor>(x), Eigen::Matrix<float, 8, 5, RowMajor>());
  check(Eigen::Matrix<float, Dynamic, 5>(x), Eigen::Matrix<float, Dynamic, 5>());
  check(rows.transpose().transpose(), Matrix<float, RowMajor>());

  // Every second row of a larger matrix, and a map whose type does not tell that it has no such gaps.
  Eigen::MatrixXf wide(16, 5);
  wide.setConstant(99);
  using Strides = Eigen::Stride<Dynamic, Dynamic>;
  Eigen::Map<Eigen::MatrixXf, 0, Strides> every_second(wide.data(), 8, 5, Strides(16, 2));
  every_second = x;
  check(every_second, Eigen::MatrixXf());
  check(Eigen::Map<const Eigen::MatrixXf, 0, Strides>(x.data(), 8, 5, Strides(8, 1)), Eigen::MatrixXf());
  check(Eigen::Map<const Eigen::MatrixXf, 0, Eigen::Stride<16, 2>>(wide.data(), 8, 5), Eigen::MatrixXf());
  CHECK((Eigen::Map<Eigen::MatrixXf, 0, Strides>(wide.data() + 1, 8, 5, Strides(16, 2)).array() == 99).all());
}

TEST_CASE("features in rows are the channels on axis 0") {
  Random random(25);
  Eigen::MatrixXf x(5, 8);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 1));
  batchnorm::BatchNorm<float, 2> columns(batchnorm::BatchNormOptions(5).channel_axis(0)), rows(5);
  const Eigen::MatrixXf y = columns.forward(x);
  const Matrix<float, RowMajor> z = rows.forward(x.transpose());
  CHECK(y == z.transpose());
  const Eigen::MatrixXf dx = columns.backward(x, y);
  CHECK(dx == Eigen::MatrixXf(rows.backward(x.transpose(), y.transpose()).transpose()));
}

TEST_CASE("what is a vector by its type is one sample, on whichever axis the channels are") {
  batchnorm::BatchNorm<float, 2> rows(6), columns(batchnorm::BatchNormOptions(6).channel_axis(0));
  Eigen::VectorXf x(6), mean(6), var(6);
  x << 1, 2, 3, 4, 5, 6;
  mean << 0, 1, 0, 1, 0, 1;
  var << 1, 4, 9, 16, 25, 36;
  for (auto* layer : {&rows, &columns}) {
    layer->set_running_mean(mean).set_running_var(var).eval();
    const Eigen::ArrayXf exact = (x - mean).array() / (var.array() + 1e-5f).sqrt();
    const Eigen::VectorXf y = layer->infer(x);
    CHECK((y.array() - exact).abs().maxCoeff() < 1e-6f);
    const Eigen::RowVectorXf across = layer->infer(x.transpose());
    CHECK(across == y.transpose());
    const Eigen::Matrix<float, 6, 1> fixed = layer->infer(Eigen::Matrix<float, 6, 1>(x));
    CHECK(fixed == y);
    CHECK(Eigen::ArrayXf(layer->infer(x.array())).matrix() == y);

    // Into the row of a matrix whose rows have gaps, from one, and from a vector into a row vector.
    Eigen::MatrixXf out = Eigen::MatrixXf::Constant(3, 6, -7), in = Eigen::MatrixXf::Constant(3, 6, -7);
    in.row(1) = x.transpose();
    layer->infer(in.row(1), out.row(1));
    CHECK(out.row(1) == y.transpose());
    CHECK((out.row(0).array() == -7).all());
    CHECK((out.row(2).array() == -7).all());
    layer->infer(x, out.row(2));
    CHECK(out.row(2) == y.transpose());
    layer->infer(in.row(1), in.row(1));
    CHECK(in.row(1) == y.transpose());

    // A forward in inference and its backward.
    CHECK(Eigen::VectorXf(layer->forward(x)) == y);
    const Eigen::VectorXf dx = layer->backward(x, Eigen::VectorXf::Ones(6));
    CHECK((dx.array() - 1 / (var.array() + 1e-5f).sqrt()).abs().maxCoeff() < 1e-6f);
  }
  // A matrix of one row, and one of one column for a layer of axis 0, are the same sample.
  CHECK(Eigen::MatrixXf(rows.infer(Eigen::MatrixXf(x.transpose()))) == Eigen::MatrixXf(rows.infer(x).transpose()));
  CHECK(Eigen::MatrixXf(columns.infer(Eigen::MatrixXf(x))) == Eigen::MatrixXf(columns.infer(x)));
  // One feature of n samples is a matrix.
  batchnorm::BatchNorm<float, 2> one(1);
  const Eigen::MatrixXf samples = x;
  CHECK(Eigen::MatrixXf(one.forward(samples.leftCols(1))).mean() == Approx(0).margin(1e-6));
}

TEST_CASE("an expression is evaluated once, before the result is written") {
  batchnorm::BatchNorm<float, 2> bn(4);
  Eigen::MatrixXf x = Eigen::MatrixXf::Random(10, 4), W = Eigen::MatrixXf::Random(4, 4), y = x;
  const Eigen::MatrixXf product = y * W;
  const Eigen::MatrixXf expected = bn.forward(product);
  bn.forward(y * W, y);
  CHECK(y == expected);
}

TEST_CASE("parts of one matrix that share no element are input and output") {
  batchnorm::BatchNorm<float, 2> bn(6);
  const Eigen::MatrixXf original = Eigen::MatrixXf::Random(64, 12);
  Eigen::MatrixXf parent = original;
  const Eigen::MatrixXf expected = bn.forward(Eigen::MatrixXf(original.topLeftCorner(32, 6)));

  bn.forward(parent.topLeftCorner(32, 6), parent.bottomLeftCorner(32, 6));
  CHECK(parent.bottomLeftCorner(32, 6) == expected);
  CHECK(parent.topRows(32) == original.topRows(32));
  CHECK(parent.rightCols(6) == original.rightCols(6));
  parent = original;
  bn.forward(parent.topLeftCorner(32, 6), parent.topRightCorner(32, 6));
  CHECK(parent.topRightCorner(32, 6) == expected);
  CHECK(parent.leftCols(6) == original.leftCols(6));
  parent = original;
  bn.forward(parent.topLeftCorner(32, 6), parent.block(32, 5, 32, 6));
  CHECK(parent.block(32, 5, 32, 6) == expected);

  // Also where the strides of the two differ: every second column of the matrix, and a block beside it.
  parent = original;
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> even(parent.data(), 32, 6, Eigen::OuterStride<>(128));
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>> odd(parent.data() + 64, 32, 6, Eigen::OuterStride<>(128));
  bn.forward(even, odd);
  const Eigen::MatrixXf even_before =
      Eigen::Map<const Eigen::MatrixXf, 0, Eigen::OuterStride<>>(original.data(), 32, 6, Eigen::OuterStride<>(128));
  CHECK(Eigen::MatrixXf(even) == even_before);
  CHECK(Eigen::MatrixXf(odd) == Eigen::MatrixXf(bn.forward(even_before)));
  parent = original;
  bn.forward(even, parent.block(32, 0, 32, 6));
  CHECK(parent.block(32, 0, 32, 6) == Eigen::MatrixXf(bn.forward(even_before)));
}

TEST_CASE("overlap is found wherever two matrices share an element, and nowhere else") {
  // Against a list of the elements themselves, for blocks of every kind in a small matrix.
  Random random(26);
  int shared = 0, apart = 0;
  for (int i = 0; i < 20000; ++i) {
    using Block = Eigen::Map<Eigen::MatrixXf, 0, Eigen::OuterStride<>>;
    std::vector<float> memory(300, 1.0f);
    const Eigen::Index rows = random.integer(1, 5), cols = random.integer(1, 5);
    const auto at = [&] {
      return Block(memory.data() + random.integer(0, 60), rows, cols,
                   Eigen::OuterStride<>(rows + random.integer(0, 2) * random.integer(0, 20)));
    };
    Block x = at(), y = at();
    std::vector<int> owners(memory.size(), 0);
    bool any = false;
    for (Eigen::Index c = 0; c < cols; ++c) {
      for (Eigen::Index r = 0; r < rows; ++r) owners[static_cast<std::size_t>(&x(r, c) - memory.data())] = 1;
    }
    for (Eigen::Index c = 0; c < cols; ++c) {
      for (Eigen::Index r = 0; r < rows; ++r) {
        any = any || owners[static_cast<std::size_t>(&y(r, c) - memory.data())] == 1;
      }
    }
    const bool itself = x.data() == y.data() && (cols == 1 || x.outerStride() == y.outerStride());
    const batchnorm::BatchNorm<float, 2> bn(cols);
    INFO(rows << " x " << cols << ": " << x.data() - memory.data() << " by " << x.outerStride() << ", "
              << y.data() - memory.data() << " by " << y.outerStride());
    if (any && !itself) {
      ++shared;
      CHECK_THROWS_AS(bn.infer(x, y), std::invalid_argument);
    } else {
      ++apart;
      CHECK_NOTHROW(bn.infer(x, y));
    }
  }
  CHECK(shared > 1000);
  CHECK(apart > 1000);
}

TEST_CASE("wrong matrices are errors that say what was expected") {
  batchnorm::BatchNorm<float, 2> bn(5);
  Eigen::MatrixXf x(8, 5), wrong(5, 8), y(8, 5);
  x.setRandom();
  wrong.setRandom();
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  CHECK(message([&] { bn.forward(wrong); }) ==
        "batchnorm: expected 5 channels on axis 1, got 8 in shape [5, 8]; axis 0 has 5: "
        "BatchNormOptions(5).channel_axis(0)");
  CHECK(message([&] { bn.forward(x, y.topRows(7)); }) == "batchnorm: expected y of the shape of x, [8, 5], got [7, 5]");
  CHECK(message([&] { batchnorm::Moments(5).add(wrong); }) ==
        "batchnorm: expected 5 channels on axis 1, got 8 in shape [5, 8]; axis 0 has 5: add(x, 0)");
  CHECK(message([&] { bn.infer(Eigen::VectorXf::Zero(4)); }) ==
        "batchnorm: expected 5 channels on axis 1, got 4 in shape [1, 4]");
  using Strides = Eigen::Stride<Dynamic, Dynamic>;
  std::vector<float> memory(200);
  Eigen::Map<Eigen::MatrixXf, 0, Strides> gaps(memory.data(), 8, 5, Strides(16, 2)),
      folded(memory.data(), 8, 5, Strides(7, 1));
  CHECK(message([&] { bn.forward(x, gaps); }) ==
        "batchnorm: expected y with its columns in memory without gaps, got an inner stride of 2");
  CHECK(message([&] { bn.forward(x, folded); }) == "batchnorm: expected y with an outer stride of at least 8, got 7");
  CHECK_NOTHROW(bn.forward(folded, y));  // read they may be
  bn.forward(x);
  CHECK(message([&] { bn.backward(x, y, x.topRows(0)); }) ==
        "batchnorm: expected dx of the shape of x, [8, 5], got [0, 5]");
}

TEST_CASE("an empty matrix leaves everything as it is") {
  batchnorm::BatchNorm<float, 2> bn(5);
  const Eigen::MatrixXf x(0, 5), y = bn.forward(x);
  CHECK(y.rows() == 0);
  CHECK(y.cols() == 5);
  CHECK(bn.num_batches_tracked() == 0);
  bn.backward(x, x);
}

TEST_CASE("the primitives take matrices") {
  Random random(27);
  for (const Eigen::Index samples : {9, 40}) {
    for (const Eigen::Index channels : {5, 70}) {
      Held<float, RowMajor> x(random, samples, channels, 11), dy(random, samples, channels, 4),
          out(random, samples, channels, 6);
      const auto tensor = x.tensor(), gradient = dy.tensor();
      const auto moments = batchnorm::accumulate_moments(x.block(), 1);
      const auto expected = batchnorm::accumulate_moments(tensor, 1);
      CHECK(same_bits(moments.mean(), expected.mean()));
      CHECK(same_bits(moments.M2(), expected.M2()));
      Eigen::Tensor<double, 1> ones(channels);
      ones.setConstant(0.75);
      const batchnorm::NormalizeCoefficients<double> k{moments.mean(), moments.mean_residual(), ones, ones};
      Tensor<float, RowMajor> out_tensor(samples, channels);
      batchnorm::normalize(x.block(), 1, k, out.block());
      batchnorm::normalize(tensor, 1, k, out_tensor);
      CHECK(same_bits(out.tensor(), out_tensor));
      const auto sums =
          batchnorm::accumulate_gradients(x.block(), dy.block(), 1, moments.mean(), moments.mean_residual());
      const auto sums_tensor =
          batchnorm::accumulate_gradients(tensor, gradient, 1, moments.mean(), moments.mean_residual());
      CHECK(same_bits(sums.dy, sums_tensor.dy));
      CHECK(same_bits(sums.dy_centered, sums_tensor.dy_centered));
      const batchnorm::GradientCoefficients<double> g{sums.dy, moments.mean(), moments.mean_residual(), ones, ones};
      batchnorm::apply_gradients(x.block(), dy.block(), 1, g, out.block());
      batchnorm::apply_gradients(tensor, gradient, 1, g, out_tensor);
      CHECK(same_bits(out.tensor(), out_tensor));
      CHECK(out.neighbours_are_untouched());
    }
  }
}
