// Moments: mergeable count, mean and sum of squared deviations, against the oracle's plain passes.

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"

namespace {

using batchnorm::BasicMoments;
using batchnorm::Moments;
using batchnorm::Variance;
using oracle::Real;

// What is between the moments' mean and the exact one.
template <class M>
Real mean_error(const M& moments, const oracle::Statistics& exact, std::size_t c) {
  const auto at = static_cast<Eigen::Index>(c);
  return std::abs(exact.centered(c, static_cast<Real>(moments.mean()(at))) +
                  static_cast<Real>(moments.mean_residual()(at)));
}

// How far the moments are from those of the data: the mean relative to the deviation, M2 relative to itself.
template <class M>
Real distance(const M& moments, const oracle::Statistics& exact) {
  Real worst = 0;
  for (std::size_t c = 0; c < exact.variance.size(); ++c) {
    const Real M2 = exact.variance[c] * static_cast<Real>(exact.count);
    worst = std::max(worst, mean_error(moments, exact, c) / std::sqrt(exact.variance[c]));
    worst = std::max(worst, std::abs(static_cast<Real>(moments.M2()(static_cast<Eigen::Index>(c))) / M2 - 1));
  }
  return worst;
}

template <typename T, int Layout>
Eigen::Tensor<T, 3, Layout> tensor_of(const std::vector<T>& values, const oracle::Geometry& g) {
  return Eigen::TensorMap<const Eigen::Tensor<T, 3, Layout>>(values.data(), g.extents[0], g.extents[1], g.extents[2]);
}

}  // namespace

TEST_CASE("new moments are those of nothing") {
  const Moments moments(3);
  CHECK(moments.channels() == 3);
  CHECK(moments.count() == 0);
  CHECK(moments.mean().size() == 3);
  CHECK(moments.M2().size() == 3);
  for (Eigen::Index c = 0; c < 3; ++c) {
    CHECK(moments.mean()(c) == 0);
    CHECK(moments.M2()(c) == 0);
  }
}

TEMPLATE_TEST_CASE_SIG("moments are those of the data, for both layouts and every channel axis", "",
                       ((typename T, int Layout), T, Layout), (float, Eigen::RowMajor), (float, Eigen::ColMajor),
                       (double, Eigen::RowMajor), (double, Eigen::ColMajor)) {
  for (int axis = 0; axis < 3; ++axis) {
    const oracle::Geometry geometry{{4, 5, 6}, Layout == Eigen::RowMajor, axis};
    Random random(41);
    const auto values = random.tensor<T>(geometry);
    const oracle::Reals reals(values.begin(), values.end());
    const auto exact = oracle::statistics(geometry, reals);
    const auto x = tensor_of<T, Layout>(values, geometry);
    Moments moments(geometry.channels()), counted_from_the_back(geometry.channels());
    moments.add(x, axis);
    counted_from_the_back.add(x, axis - 3);
    CHECK(moments.count() == exact.count);
    // Sums in T with float's rounding of the shifted values, then in double.
    const Real tolerance = std::is_same_v<T, float> ? 1e-6L : 1e-13L;
    CHECK(distance(moments, exact) < tolerance);
    CHECK(distance(counted_from_the_back, exact) < tolerance);
  }
}

TEST_CASE("moments added in pieces or merged are those of the whole") {
  const oracle::Geometry geometry{{12, 3, 7}, false, 1};
  Random random(42);
  const auto values = random.tensor<double>(geometry);
  const auto exact = oracle::statistics(geometry, oracle::Reals(values.begin(), values.end()));
  const auto x = tensor_of<double, Eigen::ColMajor>(values, geometry);
  const auto rows = [&](Eigen::Index first, Eigen::Index count) {
    return x.slice(std::array<Eigen::Index, 3>{first, 0, 0}, std::array<Eigen::Index, 3>{count, 3, 7});
  };
  Moments pieces(3), left(3), right(3);
  pieces.add(rows(0, 1));
  pieces.add(rows(1, 4));
  pieces.add(rows(5, 0));
  pieces.add(rows(5, 7));
  CHECK(pieces.count() == 84);
  CHECK(distance(pieces, exact) < 1e-13L);

  left.add(rows(0, 5));
  right.add(rows(5, 7));
  left.merge(right);
  CHECK(left.count() == 84);
  CHECK(distance(left, exact) < 1e-13L);

  left.merge(Moments(3));  // nothing comes of merging with nothing
  CHECK(distance(left, exact) < 1e-13L);
  Moments empty(3);
  empty.merge(left);
  CHECK(empty.count() == 84);
  CHECK(distance(empty, exact) < 1e-13L);
}

TEST_CASE("merging moments that differ much in count and mean loses nothing") {
  // 1 value at 1e6, 999 near 0: M2 is that of the formula of Chan et al., here from the oracle's plain passes.
  const oracle::Geometry geometry{{1000, 1, 1}, true, 1};
  Random random(43);
  auto values = random.vector<double>(1000, -1, 1);
  values[0] = 1e6;
  const auto exact = oracle::statistics(geometry, oracle::Reals(values.begin(), values.end()));
  Moments one(1), rest(1);
  one.add(Eigen::TensorMap<Eigen::Tensor<double, 3>>(values.data(), 1, 1, 1));
  rest.add(Eigen::TensorMap<Eigen::Tensor<double, 3>>(values.data() + 1, 999, 1, 1));
  auto rest_first = rest;
  one.merge(rest);
  rest_first.merge([&] {
    Moments m(1);
    m.add(Eigen::TensorMap<Eigen::Tensor<double, 3>>(values.data(), 1, 1, 1));
    return m;
  }());
  CHECK(distance(one, exact) < 1e-13L);
  CHECK(distance(rest_first, exact) < 1e-13L);
}

TEST_CASE("the mean of doubles is held to more digits than a double has") {
  // Mean 1e6, deviation 1e-2: a double mean is off by 6e-11, 6e-9 of a deviation.
  const oracle::Geometry geometry{{1000, 1, 1}, true, 1};
  Random random(44);
  const auto values = random.vector<double>(1000, 1e6 - 1e-2, 1e6 + 1e-2);
  const auto exact = oracle::statistics(geometry, oracle::Reals(values.begin(), values.end()));
  Moments moments(1);
  moments.add(Eigen::TensorMap<const Eigen::Tensor<double, 3>>(values.data(), 1000, 1, 1));
  CHECK(mean_error(moments, exact, 0) < 1e-13L * std::sqrt(exact.variance[0]));
  CHECK(std::abs(static_cast<Real>(moments.M2()(0)) / 1000 / exact.variance[0] - 1) < 1e-12L);
}

TEST_CASE("variance divides M2 by the count, or by one less for the unbiased one") {
  Eigen::Tensor<double, 2> x(4, 2);
  x.setValues({{1, 0}, {3, 0}, {5, 0}, {7, 8}});
  Moments moments(2);
  moments.add(x);
  CHECK(moments.mean()(0) == 4);
  CHECK(moments.mean()(1) == 2);
  CHECK(moments.M2()(0) == 20);
  CHECK(moments.M2()(1) == 48);
  CHECK(moments.variance()(0) == 5);
  CHECK(moments.variance(Variance::biased)(1) == 12);
  CHECK(std::abs(moments.variance(Variance::unbiased)(0) - 20.0 / 3) < 1e-15 * 20);
  CHECK(moments.variance(Variance::unbiased)(1) == 16);
}

TEST_CASE("weighted moments merge as repeated values do, and count their values") {
  const oracle::Geometry geometry{{9, 2, 1}, false, 1};
  Random random(46);
  const auto values = random.tensor<double>(geometry);
  const auto x = tensor_of<double, Eigen::ColMajor>(values, geometry);
  const std::vector<int> weights{3, 0, 1, 5, 2, 0, 1, 1, 4};
  Moments weighted(2), repeated(2);
  const auto row = [&](Eigen::Index i) {
    return x.slice(std::array<Eigen::Index, 3>{i, 0, 0}, std::array<Eigen::Index, 3>{1, 2, 1});
  };
  for (Eigen::Index i = 0; i < 9; ++i) {
    const int weight = weights[static_cast<std::size_t>(i)];
    batchnorm::detail::MomentsAccess::add(weighted, 1, static_cast<double>(weight), [&](Eigen::Index c) {
      return batchnorm::detail::ChannelMoments<double>{x(i, c, 0), 0, 0};
    });
    for (int k = 0; k < weight; ++k) repeated.add(row(i));
  }
  CHECK(weighted.count() == 9);
  CHECK(weighted.total_weight() == 17);
  CHECK(repeated.total_weight() == 17);
  Moments both = weighted;
  both.merge(weighted);
  CHECK(both.count() == 18);
  CHECK(both.total_weight() == 34);
  for (Eigen::Index c = 0; c < 2; ++c) {
    Real sum = 0, squares = 0;
    for (Eigen::Index i = 0; i < 9; ++i) sum += static_cast<Real>(x(i, c, 0)) * weights[static_cast<std::size_t>(i)];
    const Real mean = sum / 17;
    for (Eigen::Index i = 0; i < 9; ++i) {
      const Real d = static_cast<Real>(x(i, c, 0)) - mean;
      squares += d * d * weights[static_cast<std::size_t>(i)];
    }
    for (const auto* each : {&weighted, &repeated}) {
      CHECK(std::abs(static_cast<Real>(each->mean()(c)) - mean) < 1e-15L * std::sqrt(squares));
      CHECK(std::abs(static_cast<Real>(each->M2()(c)) - squares) < 1e-14L * squares);
      CHECK(std::abs(static_cast<Real>(each->variance()(c)) - squares / 17) < 1e-14L * squares);
      CHECK(std::abs(static_cast<Real>(each->variance(Variance::unbiased)(c)) - squares / 16) < 1e-14L * squares);
    }
    CHECK(both.mean()(c) == weighted.mean()(c));
    CHECK(std::abs(both.M2()(c) / weighted.M2()(c) - 2) < 1e-15);
  }
}

TEST_CASE("the biased variance of weights that sum to 1 is M2, and the unbiased one 0") {
  Moments moments(1);
  for (const double value : {-1.0, 1.0}) {
    batchnorm::detail::MomentsAccess::add(moments, 1, 0.5, [&](Eigen::Index) {
      return batchnorm::detail::ChannelMoments<double>{value, 0, 0};
    });
  }
  CHECK(moments.total_weight() == 1);
  CHECK(moments.M2()(0) == 1);
  CHECK(moments.variance()(0) == 1);
  CHECK(moments.variance(Variance::unbiased)(0) == 0);
}

TEST_CASE("moments take a device, expressions and every rank") {
  Eigen::DefaultDevice device;
  Eigen::Tensor<float, 2> x2(6, 3);
  x2.setValues({{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {6, 7, 8}, {6, 7, 8}, {6, 7, 8}});
  const Eigen::Tensor<float, 5> x5 = x2.reshape(std::array<Eigen::Index, 5>{3, 2, 1, 3, 1});
  const auto check = [](const Moments& moments) {
    CHECK(moments.count() == 6);
    for (Eigen::Index c = 0; c < 3; ++c) {
      CHECK(moments.mean()(c) == 3 + static_cast<double>(c));
      CHECK(moments.M2()(c) == 54);
    }
  };
  Moments plain(3), on_device(3), expression(3), last(3);
  plain.add(x2);
  on_device.add(device, x2);
  expression.add(x2 * 0.5F + x2 * 0.5F);
  last.add(device, x5, 3);
  check(plain);
  check(on_device);
  check(expression);
  check(last);
}

TEST_CASE("moments may accumulate in long double", "[processor]") {
  Random random(45);
  const oracle::Geometry geometry{{50, 2, 3}, false, 1};
  const auto values = random.tensor<long double>(geometry);
  const auto exact = oracle::statistics(geometry, values);
  BasicMoments<long double> moments(2);
  moments.add(tensor_of<long double, Eigen::ColMajor>(values, geometry));
  CHECK(distance(moments, exact) < 1e-17L);
}

TEST_CASE("moments of another number of channels are refused, and nothing changes") {
  Moments moments(3);
  Eigen::Tensor<float, 2> x(4, 3), other(4, 2);
  x.setConstant(2);
  other.setConstant(5);
  moments.add(x);
  CHECK_THROWS_MATCHES(moments.add(other), std::invalid_argument,
                       Catch::Matchers::Message("batchnorm: expected 3 channels on axis 1, got 2 in shape [4, 2]"));
  CHECK_THROWS_AS(moments.add(x, 0), std::invalid_argument);
  CHECK_THROWS_AS(moments.add(x, 2), std::invalid_argument);
  CHECK_THROWS_AS(moments.add(x, -3), std::invalid_argument);
  CHECK_THROWS_AS(moments.merge(Moments(2)), std::invalid_argument);
  CHECK(moments.count() == 4);
  CHECK(moments.mean()(0) == 2);
  CHECK(moments.M2()(0) == 0);
}

TEST_CASE("each channel's mean goes on in its residual") {
  // Of two neighbouring doubles, in every channel of another binade.
  constexpr Eigen::Index channels = 20;
  Eigen::Tensor<double, 2> x(2, channels);
  for (Eigen::Index c = 0; c < channels; ++c) {
    x(0, c) = std::ldexp(1.0, static_cast<int>(c));
    x(1, c) = std::nextafter(x(0, c), HUGE_VAL);
  }
  Moments moments(channels), merged(channels);
  moments.add(x);
  merged.merge(moments);
  for (const Moments* each : {&moments, &merged}) {
    for (Eigen::Index c = 0; c < channels; ++c) {
      CHECK(each->mean()(c) == x(0, c));  // the tie goes to even
      CHECK(each->mean_residual()(c) == (x(1, c) - x(0, c)) / 2);
    }
  }
}

TEST_CASE("squares that rounding left below the square of the mean have a deviation of 0") {
  const auto check = [](auto type) {
    using Pack = typename decltype(type)::Pack;
    const auto moments = batchnorm::detail::moments_of(Pack::all(0.0), Pack::all(2.0),
                                                       Pack::all(std::nextafter(1.0, 0.0)), Pack::all(0.25));
    for (int i = 0; i < Pack::size; ++i) CHECK(moments.M2.v[i] == 0);
  };
  check(batchnorm::detail::PackType<batchnorm::detail::Pack<double, 1, false>>());
  check(batchnorm::detail::PackType<batchnorm::detail::AlgebraPack<double>>());
  check(batchnorm::detail::PackType<batchnorm::detail::Pack<long double, 1, false>>());
}
