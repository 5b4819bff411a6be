// FrozenBatchNorm under -Ofast keeps the digits of an x near a large mean. The coefficients are in sight of the
// compiler, which may then compute x * scale + (shift - mean * scale) in place of (x - mean) * scale + shift.

#include <batchnorm/frozen_batch_norm.hpp>

#include <array>
#include <cmath>

#include "catch.hpp"

namespace {

// What is promised is seen beside a loop that promises nothing.
__attribute__((noinline)) float by_hand(float x) { return (x - 1e6f) * 100.0f + 7.0f; }

}  // namespace

TEST_CASE("under fast math an x near a large mean keeps its digits, by every loop there is") {
  constexpr double mean = 1e6 + 0.02;
  const auto exact = [](float x) { return (static_cast<double>(x) - 1e6 - 0.02) * 100 + 7; };
  std::array<double, 19> means, variances, biases;
  means.fill(mean), variances.fill(1e-4), biases.fill(7);
  const std::array<float, 0> absent{};
  const batchnorm::FrozenBatchNorm<float, 19> fixed(absent, biases, means, variances, 0);
  const batchnorm::FrozenBatchNorm<float> dynamic(absent, biases, means, variances, 0);
  std::array<float, 190> x, y;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1e6f + 0.0625f * static_cast<float>(i % 37);
  const auto check = [&](std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) {
      CAPTURE(i);
      // Folded, terms of 1e8 would leave errors of about 4; here two roundings of a result of at most 250.
      CHECK(std::abs(static_cast<double>(y[i]) - exact(x[i])) <= 250 * 2.4e-7);
    }
  };
  fixed.apply(x.data(), y.data());
  check(19);
  dynamic.apply(x.data(), y.data());
  check(19);
  fixed.apply(x.data(), y.data(), 10, 1);
  check(190);
  fixed.apply(x.data(), y.data(), 1, 10);
  check(190);
  dynamic.apply(x.data(), y.data(), 10, 1);
  check(190);
  dynamic.apply(x.data(), y.data(), 2, 5);
  check(190);
  CAPTURE(by_hand(1e6f + 0.0625f));
}

TEST_CASE("constants that the compiler knows are not folded under fast math") {
  batchnorm::detail::frozen::Coefficients<float> k;
  static const float mean[] = {1e6f}, scale[] = {100}, shift[] = {7};
  k = {mean, scale, shift};
  for (int i = 0; i < 20; ++i) {
    const float x = 1e6f + 0.0625f * static_cast<float>(i);
    float y;
    batchnorm::detail::frozen::normalize_samples(1, 1, k, &x, 0, &y, 0);
    CHECK(y == 7 + 6.25f * static_cast<float>(i));
    CHECK(batchnorm::detail::frozen::normalized(x, 1e6f, 100.0f, 7.0f) == 7 + 6.25f * static_cast<float>(i));
  }
}
