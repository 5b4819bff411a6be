// A layer's state from what people hold, and back.

#include <batchnorm/batchnorm.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <list>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::as_vector;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using Catch::Matchers::Message;
using Layer = BatchNorm<float, 3>;
using Values = std::vector<float>;

Values values(const Eigen::Tensor<float, 1>& tensor) { return {tensor.data(), tensor.data() + tensor.size()}; }

// What C++20 calls a span, with nothing but data and size.
template <class T>
struct Span {
  T* first;
  std::size_t count;
  T* data() const { return first; }
  std::size_t size() const { return count; }
};

// An allocator of the user's own.
template <class T>
struct Allocator : std::allocator<T> {
  template <class U>
  struct rebind {
    using other = Allocator<U>;
  };
};

const Values expected{2, -1, 0.5F};

// The scale becomes 2, -1, 0.5, where it lies.
template <class Any>
void check_taken(const Any& any) {
  Layer bn(3);
  const float* const memory = bn.weight().data();
  CHECK(&bn.set_weight(any) == &bn);
  CHECK(values(bn.weight()) == expected);
  CHECK(bn.weight().data() == memory);
}

template <class Call>
void check_refused(Layer& bn, const std::string& message, const Call& call) {
  const auto before = snapshot(bn);
  CHECK_THROWS_MATCHES(call(), std::invalid_argument, Message("batchnorm: " + message));
  CHECK(snapshot(bn) == before);
}

}  // namespace

TEST_CASE("the weight is set from Eigen vectors, arrays and expressions of them, in place") {
  Eigen::VectorXf vector(3);
  vector << 2, -1, 0.5F;
  check_taken(vector);
  check_taken(Eigen::RowVectorXf(vector.transpose()));
  check_taken(vector.array());
  check_taken(Eigen::ArrayXf(vector));
  check_taken(2 * (vector / 2));
  check_taken(vector.reverse().reverse());
  check_taken(vector.cast<double>());
  check_taken(Eigen::Vector3d(2, -1, 0.5));
  check_taken(Eigen::Map<const Eigen::VectorXf>(vector.data(), 3));
  check_taken(Eigen::Ref<const Eigen::VectorXf>(vector));
  Eigen::MatrixXf matrix(3, 2);
  matrix << 2, 9, -1, 9, 0.5F, 9;
  check_taken(matrix.col(0));
  check_taken(matrix.leftCols(1));
  check_taken(Eigen::MatrixXf(matrix.transpose()).row(0));
  check_taken(matrix * Eigen::Vector2f(1, 0));
}

TEST_CASE("the weight is set from tensors, containers, arrays and spans of any number type, in place") {
  Eigen::Tensor<float, 1> tensor(3);
  tensor.setValues({2, -1, 0.5F});
  check_taken(tensor);
  check_taken(tensor + tensor - tensor);
  check_taken(Eigen::Tensor<double, 1, Eigen::RowMajor>(tensor.cast<double>().swap_layout()));
  check_taken(Eigen::TensorMap<const Eigen::Tensor<float, 1>>(tensor.data(), 3));

  check_taken(expected);
  check_taken(std::vector<float, Allocator<float>>(expected.begin(), expected.end()));
  check_taken(std::vector<double>(expected.begin(), expected.end()));
  check_taken(std::vector<long double>(expected.begin(), expected.end()));
  check_taken(std::list<float>(expected.begin(), expected.end()));
  check_taken(std::deque<double>(expected.begin(), expected.end()));
  check_taken(std::array<float, 3>{2, -1, 0.5F});
  check_taken(std::initializer_list<double>{2, -1, 0.5});
  const float plain[] = {2, -1, 0.5F};
  check_taken(plain);
  check_taken(Span<const float>{plain, 3});
  const Eigen::half half[] = {Eigen::half(2.0F), Eigen::half(-1.0F), Eigen::half(0.5F)};
  check_taken(half);
  check_taken(Span<const Eigen::half>{half, 3});

  Layer bn(3);
  CHECK(values(bn.set_weight({2, -1, 0.5F}).weight()) == expected);
  CHECK(values(bn.set_weight(std::vector<int>{4, 0, -7}).weight()) == Values{4, 0, -7});
  CHECK(values(bn.set_weight(std::vector<bool>{true, false, true}).weight()) == Values{1, 0, 1});
}

TEST_CASE("each setter sets the vector of its name and no other, and setters chain") {
  Layer bn(3);
  bn.set_weight({1, 2, 3}).set_bias({4, 5, 6}).set_running_mean({7, 8, 9}).set_running_var({10, 11, 12});
  CHECK(values(bn.weight()) == Values{1, 2, 3});
  CHECK(values(bn.bias()) == Values{4, 5, 6});
  CHECK(values(bn.running_mean()) == Values{7, 8, 9});
  CHECK(values(bn.running_var()) == Values{10, 11, 12});
  CHECK(bn.num_batches_tracked() == 0);
}

TEST_CASE("a vector can be set from an expression of itself") {
  Layer bn(3);
  bn.set_weight({1, 2, 3});
  bn.set_weight(as_vector(bn.weight()).reverse());
  CHECK(values(bn.weight()) == Values{3, 2, 1});
  bn.set_weight(bn.weight().reverse(std::array<bool, 1>{true}));
  CHECK(values(bn.weight()) == Values{1, 2, 3});
  bn.set_weight(bn.weight());
  CHECK(values(bn.weight()) == Values{1, 2, 3});
}

TEST_CASE("layers of double and of 16-bit numbers take values of any number type") {
  BatchNorm<double, 2> wide(2);
  wide.set_weight(std::vector<float>{0.1F, 2}).set_bias(std::vector<double>{0.1, 3});
  CHECK(wide.weight()(0) == static_cast<double>(0.1F));
  CHECK(wide.bias()(0) == 0.1);
  BatchNorm<Eigen::half, 2> narrow(2);
  narrow.set_weight(std::vector<double>{0.1, 2});
  CHECK(narrow.weight()(0) == 0.1F);
  narrow.set_running_mean(Eigen::Matrix<Eigen::bfloat16, 2, 1>(Eigen::bfloat16(3.0F), Eigen::bfloat16(4.0F)));
  CHECK(values(narrow.running_mean()) == Values{3, 4});
  BatchNorm<long double, 2> longer(2);
  longer.set_weight(std::vector<Eigen::half>{Eigen::half(0.5F), Eigen::half(2.0F)});
  CHECK(longer.weight()(0) == 0.5L);
}

TEST_CASE("another number of values is refused by a message with both numbers, and nothing changes") {
  Layer bn(3);
  bn.set_weight({1, 2, 3}).set_bias({4, 5, 6}).set_running_mean({7, 8, 9}).set_running_var({10, 11, 12});
  check_refused(bn, "expected weight of size 3, got 4", [&] { bn.set_weight(Values(4)); });
  check_refused(bn, "expected bias of size 3, got 0", [&] { bn.set_bias(Values()); });
  check_refused(bn, "expected running_mean of size 3, got 2", [&] { bn.set_running_mean(Eigen::VectorXf::Ones(2)); });
  check_refused(bn, "expected running_var of size 3, got 1", [&] { bn.set_running_var({1}); });
  check_refused(bn, "expected weight in a vector, got 3 rows and 2 columns",
                [&] { bn.set_weight(Eigen::MatrixXf::Ones(3, 2)); });
}

TEST_CASE("a layer without a vector says which option it lacks, and takes as many values as it has") {
  Layer bare(BatchNormOptions(3).affine(false).track_running_stats(false));
  const Values three(3);
  check_refused(bare, "expected no weight for a layer of scale(false), got 3 values", [&] { bare.set_weight(three); });
  check_refused(bare, "expected no bias for a layer of shift(false), got 3 values", [&] { bare.set_bias(three); });
  check_refused(bare, "expected no running_mean for a layer of track_running_stats(false), got 3 values",
                [&] { bare.set_running_mean(three); });
  check_refused(bare, "expected no running_var for a layer of track_running_stats(false), got 3 values",
                [&] { bare.set_running_var(three); });
  const Layer other(bare.options());
  CHECK_NOTHROW(bare.set_weight(other.weight()).set_running_var(other.running_var()));
  CHECK_NOTHROW(bare.set_running_stats(other.running_stats()));
}

TEST_CASE("a vector that was given another size by mistake is set to the right one") {
  Layer bn(3);
  bn.weight().resize(7);
  bn.set_weight({1, 2, 3});
  CHECK(values(bn.weight()) == Values{1, 2, 3});
}

TEST_CASE("a layer that was moved from takes no state") {
  Layer bn(3);
  const Layer other = std::move(bn);
  // NOLINTNEXTLINE(bugprone-use-after-move)
  CHECK_THROWS_MATCHES(bn.set_weight({1, 2, 3}), std::logic_error,
                       Message("batchnorm: expected a layer, got one that was moved from"));
  CHECK(values(other.weight()) == Values(3, 1));
}

TEST_CASE("running statistics are a value: later batches leave it alone, and put back it restores the layer") {
  Layer bn(3);
  Eigen::Tensor<float, 3> x(4, 3, 2);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * i % 7);
  bn.forward(x);
  const auto before = snapshot(bn);
  const float *const mean = bn.running_mean().data(), *const var = bn.running_var().data();

  const batchnorm::RunningStatistics<float> statistics = bn.running_stats();
  CHECK(values(statistics.running_mean) == values(bn.running_mean()));
  CHECK(values(statistics.running_var) == values(bn.running_var()));
  CHECK(statistics.num_batches_tracked == 1);

  const Eigen::Tensor<float, 3> shifted = x + 3.0F;
  bn.forward(shifted);
  CHECK(values(statistics.running_mean) != values(bn.running_mean()));
  bn.forward(x);  // so that the saved statistics are as they were
  CHECK(&bn.set_running_stats(statistics) == &bn);
  CHECK(snapshot(bn) == before);
  CHECK(bn.running_mean().data() == mean);
  CHECK(bn.running_var().data() == var);

  BatchNorm<double, 2> other(3);
  other.set_running_stats(statistics);
  CHECK(other.running_var()(2) == static_cast<double>(statistics.running_var(2)));
  CHECK(other.num_batches_tracked() == 1);
}

TEST_CASE("running statistics that do not fit are refused whole, and nothing changes") {
  Layer bn(3);
  auto wrong = bn.running_stats();
  wrong.running_mean.setConstant(5);
  wrong.running_var.resize(2);
  check_refused(bn, "expected running_var of size 3, got 2", [&] { bn.set_running_stats(wrong); });
  wrong = Layer(2).running_stats();
  check_refused(bn, "expected running_mean of size 3, got 2", [&] { bn.set_running_stats(wrong); });
  wrong = bn.running_stats();
  wrong.running_mean.setConstant(5);
  wrong.num_batches_tracked = -1;
  check_refused(bn, "expected num_batches_tracked of at least 0, got -1", [&] { bn.set_running_stats(wrong); });
  Layer untracked(BatchNormOptions(3).track_running_stats(false));
  check_refused(untracked, "expected no running_mean for a layer of track_running_stats(false), got 3 values",
                [&] { untracked.set_running_stats(bn.running_stats()); });
}

TEST_CASE("as_vector shows a state vector as an Eigen vector, to read and to assign") {
  Layer bn(3);
  Eigen::Map<Eigen::VectorXf> weight = as_vector(bn.weight());
  weight.array() *= 2;
  weight(1) = -1;
  CHECK(values(bn.weight()) == Values{2, -1, 2});
  as_vector(bn.bias()) << 1, 2, 3;
  CHECK(values(bn.bias()) == Values{1, 2, 3});

  const Layer& constant = bn;
  const Eigen::Map<const Eigen::VectorXf> read = as_vector(constant.bias());
  CHECK(read.data() == constant.bias().data());
  CHECK(read.sum() == 6);
  const Eigen::VectorXf sum = as_vector(constant.weight()) + read;
  CHECK(sum == Eigen::Vector3f(3, 1, 5));
}

TEST_CASE("as_vector of a temporary holds its values") {
  const auto read = as_vector(Layer(3).set_running_mean({1, 2, 3}).running_stats().running_mean);
  static_assert(std::is_same_v<decltype(read), const Eigen::VectorXf>, "a map would show memory that is gone");
  CHECK(read == Eigen::Vector3f(1, 2, 3));
}
