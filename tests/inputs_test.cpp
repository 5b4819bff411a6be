// What forward, infer and backward accept and return: every kind of tensor, as input and as output.

#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"

namespace {

using Eigen::ColMajor;
using Eigen::RowMajor;

template <class Tensor>
Tensor filled(Tensor tensor, std::uint64_t seed) {
  Random random(seed);
  for (Eigen::Index i = 0; i < tensor.size(); ++i) {
    tensor.data()[i] = static_cast<typename Tensor::Scalar>(random.uniform(-2, 2));
  }
  return tensor;
}

template <class A, class B>
bool same(const A& a, const B& b) {
  return a.size() == b.size() && std::equal(a.data(), a.data() + a.size(), b.data());
}

// Forward, infer and backward on these inputs, however they are held.
template <class T, int Rank, class X, class DY>
auto results_for(const X& x, const DY& dy) {
  batchnorm::BatchNorm<T, Rank> bn(3);
  bn.weight().setValues({T(0.5), T(2), T(-1)});
  auto y = bn.forward(x);
  auto dx = bn.backward(x, dy);
  auto z = std::as_const(bn).infer(x);
  return std::make_tuple(std::move(y), std::move(dx), std::move(z));
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("tensors, fixed-size tensors, maps, const maps and expressions give the same result", "",
                       ((typename T, int Layout), T, Layout), (float, RowMajor), (double, ColMajor)) {
  using Tensor = Eigen::Tensor<T, 3, Layout>;
  using Fixed = Eigen::TensorFixedSize<T, Eigen::Sizes<4, 3, 5>, Layout>;
  auto x = filled(Tensor(4, 3, 5), 1), dy = filled(Tensor(4, 3, 5), 2);
  const auto expected = results_for<T, 3>(x, dy);

  Fixed x_fixed, dy_fixed;
  x_fixed = x;
  dy_fixed = dy;
  const auto check = [&](const auto& results) {
    CHECK(same(std::get<0>(results), std::get<0>(expected)));
    CHECK(same(std::get<1>(results), std::get<1>(expected)));
    CHECK(same(std::get<2>(results), std::get<2>(expected)));
  };
  check(results_for<T, 3>(x_fixed, dy_fixed));
  check(results_for<T, 3>(Eigen::TensorMap<Tensor>(x.data(), 4, 3, 5), Eigen::TensorMap<Tensor>(dy.data(), 4, 3, 5)));
  check(results_for<T, 3>(Eigen::TensorMap<const Tensor>(x.data(), 4, 3, 5),
                          Eigen::TensorMap<const Tensor>(dy.data(), 4, 3, 5)));
  check(results_for<T, 3>(Eigen::TensorMap<Fixed>(x.data(), 4, 3, 5), dy));
  check(results_for<T, 3>((x + x) * T(0.5), -(-dy)));  // exact in binary
  check(results_for<T, 3>(x, dy * T(1)));
  check(results_for<T, 3>(x.shuffle(std::array<int, 3>{0, 1, 2}), dy));
}

TEST_CASE("a returned tensor has the input's scalar, rank, layout and index type") {
  batchnorm::BatchNorm<float, 3> bn(3);
  Eigen::DefaultDevice device;
  const auto check = [&](const auto& x, auto expected) {
    using Expected = decltype(expected);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.forward(x)), Expected>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.forward(device, x)), Expected>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.infer(x)), Expected>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.infer(device, x)), Expected>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.backward(x, x)), Expected>);
    STATIC_REQUIRE(std::is_same_v<decltype(bn.backward(device, x, x)), Expected>);
    const auto y = bn.forward(x);
    CHECK(y.dimension(0) == 2);
    CHECK(y.dimension(1) == 3);
    CHECK(y.dimension(2) == 4);
  };
  const auto x = filled(Eigen::Tensor<float, 3, RowMajor, int>(2, 3, 4), 3);
  check(x, Eigen::Tensor<float, 3, RowMajor, int>());
  check(filled(Eigen::Tensor<float, 3>(2, 3, 4), 3), Eigen::Tensor<float, 3>());
  check(filled(Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3, 4>, RowMajor>(), 3),
        Eigen::Tensor<float, 3, RowMajor>());
  check(Eigen::TensorMap<const Eigen::Tensor<float, 3, RowMajor, int>>(x.data(), 2, 3, 4),
        Eigen::Tensor<float, 3, RowMajor, int>());
  // forward, infer and backward into the caller's memory return nothing.
  auto y = x;
  STATIC_REQUIRE(std::is_void_v<decltype(bn.forward(x, y))>);
  STATIC_REQUIRE(std::is_void_v<decltype(bn.infer(device, x, y))>);
  STATIC_REQUIRE(std::is_void_v<decltype(bn.backward(x, x, y))>);
}

TEST_CASE("results go to tensors, fixed-size tensors, maps and temporary maps") {
  using Tensor = Eigen::Tensor<float, 3, RowMajor>;
  const auto x = filled(Tensor(2, 3, 5), 4), dy = filled(Tensor(2, 3, 5), 5);
  const auto [y, dx, z] = results_for<float, 3>(x, dy);
  Eigen::DefaultDevice device;

  const auto check = [&, &expected_y = y, &expected_dx = dx, &expected_z = z](auto&& call_into) {
    Tensor memory(2, 3, 5);
    batchnorm::BatchNorm<float, 3> bn(3);
    bn.weight().setValues({0.5F, 2, -1});
    call_into([&](auto&& out) { bn.forward(x, std::forward<decltype(out)>(out)); }, memory);
    CHECK(same(memory, expected_y));
    memory.setZero();
    call_into([&](auto&& out) { bn.backward(x, dy, std::forward<decltype(out)>(out)); }, memory);
    CHECK(same(memory, expected_dx));
    memory.setZero();
    call_into([&](auto&& out) { bn.backward(device, x, dy, std::forward<decltype(out)>(out)); }, memory);
    CHECK(same(memory, expected_dx));
    memory.setZero();
    call_into([&](auto&& out) { bn.infer(device, x, std::forward<decltype(out)>(out)); }, memory);
    CHECK(same(memory, expected_z));
  };
  check([](auto&& call, Tensor& memory) { call(memory); });
  check([](auto&& call, Tensor& memory) { call(Eigen::TensorMap<Tensor>(memory.data(), 2, 3, 5)); });
  check([](auto&& call, Tensor& memory) {
    Eigen::TensorMap<Tensor> map(memory.data(), 2, 3, 5);
    call(map);
  });
  check([](auto&& call, Tensor& memory) {
    const Eigen::TensorMap<Tensor> map(memory.data(), 2, 3, 5);  // the map is const, its elements are not
    call(map);
  });
  check([](auto&& call, Tensor& memory) {
    Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3, 5>, RowMajor> fixed;
    call(fixed);
    std::copy(fixed.data(), fixed.data() + fixed.size(), memory.data());
  });
}

TEST_CASE("an expression is evaluated once, and its operands may be the output") {
  using Tensor = Eigen::Tensor<float, 3>;
  const auto x = filled(Tensor(2, 3, 5), 6);
  batchnorm::BatchNorm<float, 3> bn(3), other(3);
  int evaluations = 0;
  const auto counted = x.unaryExpr([&evaluations](float value) { return ++evaluations, value; });
  CHECK(same(bn.forward(counted), other.forward(x)));
  CHECK(evaluations == 30);

  auto doubled = x;
  bn.forward(doubled + doubled, doubled);  // not in place: the sum is a temporary
  const Tensor sum = x + x;
  CHECK(same(doubled, other.forward(sum)));
}

TEST_CASE("a layer of channels last takes channels last") {
  const auto nchw = filled(Eigen::Tensor<float, 4, RowMajor>(2, 3, 4, 5), 7);
  const std::array<int, 4> to_last = {0, 2, 3, 1};
  const Eigen::Tensor<float, 4, RowMajor> nhwc = nchw.shuffle(to_last);
  batchnorm::BatchNorm<float, 4> first(3), last(batchnorm::BatchNormOptions(3).channel_axis(-1));
  const Eigen::Tensor<float, 4, RowMajor> expected = first.forward(nchw).shuffle(to_last);
  const auto got = last.forward(nhwc);
  double worst = 0;
  for (Eigen::Index i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got.data()[i] - expected.data()[i])));
  }
  CHECK(worst <= 2e-6);  // each within 1e-6 of the exact value, and no value above 2
}

TEST_CASE("one layer takes both layouts and all kinds in turn") {
  batchnorm::BatchNorm<double, 2> bn(3);
  bn.forward(filled(Eigen::Tensor<double, 2>(4, 3), 8));
  bn.forward(filled(Eigen::Tensor<double, 2, RowMajor>(5, 3), 9));
  bn.forward(filled(Eigen::TensorFixedSize<double, Eigen::Sizes<6, 3>>(), 10));
  CHECK(bn.num_batches_tracked() == 3);
}
