// Running statistics from known and pooled ones, and taken anew from data, against the oracle's plain passes.

#include <batchnorm/batchnorm.hpp>

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::BasicMoments;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::Moments;
using batchnorm::Pooling;
using batchnorm::SingleValue;
using batchnorm::Variance;
using Catch::Matchers::Message;
using oracle::Real;
using oracle::Reals;
using Batch = Eigen::Tensor<float, 3, Eigen::RowMajor>;
using Layer = BatchNorm<float, 3>;

oracle::Geometry geometry_of(std::int64_t samples, std::int64_t channels) { return {{samples, channels, 4}, true, 1}; }

Batch batch_of(std::int64_t samples, std::int64_t channels, Random& random, double shift) {
  const auto geometry = geometry_of(samples, channels);
  Batch x(samples, channels, 4);
  const auto values = random.tensor<float>(geometry);
  for (std::size_t i = 0; i < values.size(); ++i) {
    x.data()[i] = values[i] + static_cast<float>(shift);
  }
  return x;
}

// Batches of uneven sizes whose means differ, so that what is between them shows.
std::vector<Batch> uneven_batches(std::int64_t channels = 5) {
  Random random(71);
  std::vector<Batch> result;
  for (const std::int64_t samples : {7, 1, 3, 0, 12}) {
    result.push_back(batch_of(samples, channels, random, 3.0 * static_cast<double>(result.size())));
  }
  return result;
}

oracle::Statistics statistics_of(const Batch& x) {
  return oracle::statistics(geometry_of(x.dimension(0), x.dimension(1)), Reals(x.data(), x.data() + x.size()));
}

Batch joined(const std::vector<Batch>& batches) {
  Batch result = batches[0];
  for (std::size_t b = 1; b < batches.size(); ++b) {
    if (batches[b].size() != 0) result = Batch(result.concatenate(batches[b], 0));
  }
  return result;
}

// Of all values together, or means over the batches.
struct Expected {
  Reals mean, var;
};

Expected expected_statistics(const std::vector<Batch>& batches, Pooling pooling, bool unbiased) {
  const auto correction = [&](std::int64_t count) {
    return unbiased ? static_cast<Real>(count) / static_cast<Real>(count - 1) : 1;
  };
  Expected result;
  if (pooling == Pooling::all_values) {
    const auto all = statistics_of(joined(batches));
    for (std::size_t c = 0; c < all.variance.size(); ++c) {
      result.mean.push_back(all.mean(c));
      result.var.push_back(all.variance[c] * correction(all.count));
    }
    return result;
  }
  const auto channels = static_cast<std::size_t>(batches[0].dimension(1));
  result = {Reals(channels, 0), Reals(channels, 0)};
  Real share = 0;
  for (const auto& batch : batches) share += batch.size() == 0 ? 0 : 1;
  for (const auto& batch : batches) {
    if (batch.size() == 0) continue;
    const auto each = statistics_of(batch);
    for (std::size_t c = 0; c < channels; ++c) {
      result.mean[c] += each.mean(c) / share;
      result.var[c] += each.variance[c] * correction(each.count) / share;
    }
  }
  return result;
}

// The running statistics are these to float's last digit.
template <class Bn>
void check_running(const Bn& bn, const Expected& expected) {
  REQUIRE(static_cast<std::size_t>(bn.running_mean().size()) == expected.mean.size());
  for (std::size_t c = 0; c < expected.mean.size(); ++c) {
    const auto at = static_cast<Eigen::Index>(c);
    const Real deviation = std::sqrt(expected.var[c]);
    CHECK(std::abs(static_cast<Real>(bn.running_mean()(at)) - expected.mean[c]) <
          1.2e-7L * (std::abs(expected.mean[c]) + deviation));
    CHECK(std::abs(static_cast<Real>(bn.running_var()(at)) - expected.var[c]) < 1.2e-7L * expected.var[c]);
  }
}

// Trained on other data, so that something is there to be forgotten.
Layer trained_layer(const BatchNormOptions& options) {
  Random random(72);
  Layer bn(options);
  bn.forward(batch_of(6, options.num_features(), random, 40));
  bn.set_weight(random.vector<float>(static_cast<std::size_t>(options.num_features()), 0.5, 2));
  return bn;
}

// All but the running statistics and their count.
std::vector<double> rest_of(const Layer& bn) {
  Layer other = bn;
  other.reset_running_stats();
  return snapshot(other);
}

constexpr Pooling poolings[] = {Pooling::all_values, Pooling::mean_of_batches};

}  // namespace

TEST_CASE("moments made of count, mean and variance are those of the data, and merge") {
  const auto batches = uneven_batches();
  const auto exact = statistics_of(joined(batches));
  for (const bool unbiased : {false, true}) {
    Moments merged(5);
    for (const auto& batch : batches) {
      const auto each = statistics_of(batch);
      std::vector<long double> mean, var;
      for (std::size_t c = 0; c < 5; ++c) {
        mean.push_back(each.mean(c));
        const auto n = static_cast<Real>(each.count);
        var.push_back(unbiased && each.count > 0 ? each.variance[c] * n / (n - 1) : each.variance[c]);
      }
      merged.merge(Moments(each.count, mean, var, unbiased ? Variance::unbiased : Variance::biased));
    }
    CHECK(merged.count() == exact.count);
    CHECK(merged.total_weight() == static_cast<double>(exact.count));
    for (std::size_t c = 0; c < 5; ++c) {
      const auto at = static_cast<Eigen::Index>(c);
      CHECK(std::abs(static_cast<Real>(merged.mean()(at)) - exact.mean(c)) < 1e-14L * std::sqrt(exact.variance[c]));
      CHECK(std::abs(static_cast<Real>(merged.variance()(at)) / exact.variance[c] - 1) < 1e-14L);
    }
  }
}

TEST_CASE("moments are made of whatever holds one number per channel") {
  const Eigen::Vector3f mean(1, 2, 3);
  Eigen::Tensor<double, 1> variance(3);
  variance.setValues({4, 5, 6});
  const Moments from_eigen(10, mean, variance), from_braces(10, {1, 2, 3}, {4, 5, 6});
  const Moments from_containers(10, std::vector<float>{1, 2, 3}, std::list<int>{4, 5, 6});
  const Moments from_expressions(10, mean * 1, (mean.array() + 3).matrix());
  for (const Moments* each : {&from_eigen, &from_braces, &from_containers, &from_expressions}) {
    CHECK(each->channels() == 3);
    CHECK(each->count() == 10);
    for (Eigen::Index c = 0; c < 3; ++c) {
      CHECK(each->mean()(c) == static_cast<double>(c) + 1);
      CHECK(each->mean_residual()(c) == 0);
      CHECK(each->M2()(c) == 10 * (static_cast<double>(c) + 4));
    }
  }
}

TEST_CASE("moments of one value or none have a variance of 0 whatever is said of it") {
  const Moments one(1, {2, 3}, {std::nan(""), 7}, Variance::unbiased), none(0, {2, 3}, {4, 5});
  CHECK(one.mean()(1) == 3);
  CHECK(none.mean()(1) == 0);
  for (const Moments* each : {&one, &none}) {
    CHECK(each->M2()(0) == 0);
    CHECK(each->M2()(1) == 0);
  }
}

TEST_CASE("statistics that cannot be moments are refused by a message that says why") {
  const auto check = [](const char* message, auto make) {
    CHECK_THROWS_MATCHES(make(), std::invalid_argument, Message(message));
  };
  check("batchnorm: expected a count of at least 0, got -1", [] { return Moments(-1, {1}, {1}); });
  check("batchnorm: expected as many variances as means, 2, got 1", [] { return Moments(5, {1, 2}, {1}); });
  check("batchnorm: expected at least 1 channel, got 0",
        [] { return Moments(5, std::vector<float>(), std::vector<float>()); });
  check("batchnorm: expected variances of at least 0, got a negative one in channel 1", [] {
    return Moments(5, {1, 2}, {1, -1});
  });
  check("batchnorm: expected a variance of 0 of one value, got another in channel 0",
        [] { return Moments(1, {1}, {2}); });
}

TEST_CASE("set_running_stats takes moments, with the variance that the layer keeps, in place") {
  const auto batches = uneven_batches();
  for (const bool unbiased : {false, true}) {
    auto bn = trained_layer(BatchNormOptions(5).running_variance(unbiased ? Variance::unbiased : Variance::biased));
    const float *const mean = bn.running_mean().data(), *const var = bn.running_var().data();
    const auto rest = rest_of(bn);
    Moments moments(5);
    for (const auto& batch : batches) moments.add(batch);
    CHECK(&bn.set_running_stats(moments) == &bn);
    check_running(bn, expected_statistics(batches, Pooling::all_values, unbiased));
    CHECK(bn.running_mean().data() == mean);
    CHECK(bn.running_var().data() == var);
    CHECK(rest_of(bn) == rest);
  }
}

TEST_CASE("moments of any accumulator make running statistics") {
  BatchNorm<double, 2> bn(2);
  bn.set_running_stats(BasicMoments<long double>(4, {1, 2}, {3, 6}));
  CHECK(bn.running_mean()(1) == 2);
  CHECK(bn.running_var()(0) == 4);
  bn.set_running_stats(BasicMoments<float>(4, {0, 5}, {6, 3}));
  CHECK(bn.running_mean()(1) == 5);
  CHECK(bn.running_var()(0) == 8);
}

TEST_CASE("moments leave the number of batches as it is, but never at 0") {
  const Moments moments(4, {1, 2}, {3, 4});
  Layer bn(2);
  bn.set_running_stats(moments);
  CHECK(bn.num_batches_tracked() == 1);
  bn.num_batches_tracked(7).set_running_stats(moments);
  CHECK(bn.num_batches_tracked() == 7);
}

TEST_CASE("moments that do not fit are refused, and nothing changes") {
  auto bn = trained_layer(BatchNormOptions(5));
  const auto before = snapshot(bn);
  CHECK_THROWS_MATCHES(bn.set_running_stats(Moments(4)), std::invalid_argument,
                       Message("batchnorm: expected moments of more than one value per channel (see "
                               "BatchNormOptions::single_value), got 0"));
  CHECK_THROWS_MATCHES(bn.set_running_stats(Moments(4, {1, 2}, {3, 4})), std::invalid_argument,
                       Message("batchnorm: expected moments of 5 channels, got 2"));
  CHECK_THROWS_AS(bn.set_running_stats(Moments(1, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0})), std::invalid_argument);
  CHECK(snapshot(bn) == before);

  Layer untracked(BatchNormOptions(5).track_running_stats(false));
  CHECK_THROWS_MATCHES(untracked.set_running_stats(Moments(4, {1, 1, 1, 1, 1}, {1, 1, 1, 1, 1})), std::invalid_argument,
                       Message("batchnorm: expected a layer with running statistics, got one of "
                               "track_running_stats(false)"));
  Layer allowing(BatchNormOptions(1).single_value(SingleValue::allow));
  allowing.set_running_stats(Moments(1, {3}, {0}));
  CHECK(allowing.running_mean()(0) == 3);
  CHECK(allowing.running_var()(0) == 0);
}

TEST_CASE("reestimate gives the statistics of all values, or the means over the batches, and changes nothing else") {
  const auto batches = uneven_batches();
  for (const Pooling pooling : poolings) {
    for (const bool unbiased : {false, true}) {
      auto bn = trained_layer(BatchNormOptions(5).running_variance(unbiased ? Variance::unbiased : Variance::biased));
      const auto rest = rest_of(bn);
      batchnorm::reestimate(bn, batches, pooling);
      check_running(bn, expected_statistics(batches, pooling, unbiased));
      CHECK(bn.num_batches_tracked() == 4);  // one of the five is empty
      CHECK(rest_of(bn) == rest);
    }
  }
}

TEST_CASE("what is between the batches is in the variance of all values alone") {
  std::vector<Batch> batches(2, Batch(2, 1, 4));
  for (int b = 0; b < 2; ++b) {
    for (Eigen::Index i = 0; i < 8; ++i)
      batches[static_cast<std::size_t>(b)].data()[i] = 10.0F * static_cast<float>(b) + (i % 2 == 1 ? 1.0F : -1.0F);
  }
  Layer bn(BatchNormOptions(1).running_variance(Variance::biased));
  batchnorm::reestimate(bn, batches);
  CHECK(bn.running_mean()(0) == 5);
  CHECK(bn.running_var()(0) == 26);
  batchnorm::reestimate(bn, batches, Pooling::mean_of_batches);
  CHECK(bn.running_mean()(0) == 5);
  CHECK(bn.running_var()(0) == 1);
}

TEST_CASE("the mean of batches is what a pass with a momentum of nullopt leaves") {
  const auto batches = uneven_batches();
  Layer averaging(BatchNormOptions(5).momentum(std::nullopt)), bn(5);
  for (const auto& batch : batches) averaging.forward(batch);
  batchnorm::reestimate(bn, batches, Pooling::mean_of_batches);
  CHECK(bn.num_batches_tracked() == averaging.num_batches_tracked());
  for (Eigen::Index c = 0; c < 5; ++c) {
    CHECK(std::abs(bn.running_mean()(c) - averaging.running_mean()(c)) < 1e-6F * std::sqrt(bn.running_var()(c)));
    CHECK(std::abs(bn.running_var()(c) / averaging.running_var()(c) - 1) < 1e-6F);
  }
}

TEST_CASE("reestimate takes any range of whatever forward takes, and a device") {
  BatchNorm<float, 2> rows(3), columns(BatchNormOptions(3).channel_axis(0)), wanted(3);
  Eigen::MatrixXf x = Eigen::MatrixXf::Random(8, 3), more = Eigen::MatrixXf::Random(4, 3);
  Moments moments(3);
  moments.add(x).add(more);
  wanted.set_running_stats(moments).num_batches_tracked(2);
  const auto check = [&](BatchNorm<float, 2>& bn) {
    CHECK(snapshot(bn) == snapshot(wanted));
    bn.reset_running_stats();
  };
  batchnorm::reestimate(rows, std::list<Eigen::MatrixXf>{x, more});
  check(rows);
  const Eigen::MatrixXf array[] = {x, more};
  batchnorm::reestimate(Eigen::DefaultDevice(), rows, array);
  check(rows);
  batchnorm::reestimate(columns, std::array<Eigen::MatrixXf, 2>{x.transpose(), more.transpose()});
  check(columns);
  const std::vector<Eigen::Map<const Eigen::MatrixXf>> maps{{x.data(), 8, 3}, {more.data(), 4, 3}};
  batchnorm::reestimate(rows, maps);
  check(rows);

  // A range that makes its batches as it is read, once.
  struct Loader {
    struct End {};
    struct Iterator {
      Loader* loader;
      Eigen::MatrixXf operator*() const { return loader->made == 0 ? loader->first : loader->second; }
      Iterator& operator++() {
        ++loader->made;
        return *this;
      }
      bool operator!=(End) const { return loader->made < 2; }
    };
    Iterator begin() { return {this}; }
    End end() { return {}; }
    Eigen::MatrixXf first, second;
    int made = 0;
  };
  Loader loader{x, more};
  batchnorm::reestimate(rows, loader);
  check(rows);
  batchnorm::reestimate(rows, Loader{x, more});
  check(rows);
}

TEST_CASE("single values are pooled like any other, and for the mean of batches as the option says") {
  std::vector<Eigen::MatrixXf> samples(3, Eigen::MatrixXf(1, 1));
  for (int i = 0; i < 3; ++i) samples[static_cast<std::size_t>(i)](0, 0) = static_cast<float>(3 * i);
  BatchNorm<float, 2> bn(1);
  batchnorm::reestimate(bn, samples);
  CHECK(bn.running_mean()(0) == 3);
  CHECK(bn.running_var()(0) == 9);
  CHECK(bn.num_batches_tracked() == 3);
  const auto before = snapshot(bn);
  CHECK_THROWS_AS(batchnorm::reestimate(bn, samples, Pooling::mean_of_batches), std::invalid_argument);
  samples.resize(1);
  CHECK_THROWS_AS(batchnorm::reestimate(bn, samples), std::invalid_argument);
  CHECK(snapshot(bn) == before);

  samples.push_back(Eigen::MatrixXf(2, 1));
  samples[1] << 4, 6;
  BatchNorm<float, 2> skipping(BatchNormOptions(1).single_value(SingleValue::skip_update));
  batchnorm::reestimate(skipping, samples, Pooling::mean_of_batches);
  CHECK(skipping.running_mean()(0) == 5);
  CHECK(skipping.running_var()(0) == 2);
  BatchNorm<float, 2> allowing(BatchNormOptions(1).single_value(SingleValue::allow));
  batchnorm::reestimate(allowing, samples, Pooling::mean_of_batches);
  CHECK(allowing.running_mean()(0) == 2.5F);
  CHECK(allowing.running_var()(0) == 1);
}

TEST_CASE("in a chain each layer gets the statistics of what training batches bring it, whatever its mode") {
  const auto batches = uneven_batches();
  for (const Pooling pooling : poolings) {
    auto first = trained_layer(BatchNormOptions(5)), second = trained_layer(BatchNormOptions(5));
    Random random(73);
    first.set_bias(random.vector<float>(5, -2, 2));
    second.eval();
    const auto activation = [](const Batch& h) { return Batch(h.abs() * 3.0F); };

    // The oracle's first layer, and what its outputs are for the second.
    oracle::Settings settings;
    oracle::Layer exact(settings, 5);
    for (std::size_t c = 0; c < 5; ++c) {
      exact.weight[c] = static_cast<Real>(first.weight()(static_cast<Eigen::Index>(c)));
      exact.bias[c] = static_cast<Real>(first.bias()(static_cast<Eigen::Index>(c)));
    }
    std::vector<Batch> hidden;
    for (const auto& batch : batches) {
      const auto y =
          exact.forward(geometry_of(batch.dimension(0), 5), Reals(batch.data(), batch.data() + batch.size()));
      Batch h(batch.dimensions());
      for (Eigen::Index i = 0; i < h.size(); ++i) {
        h.data()[i] = static_cast<float>(std::abs(y[static_cast<std::size_t>(i)]) * 3);
      }
      hidden.push_back(h);
    }

    const auto rest_of_first = rest_of(first), rest_of_second = rest_of(second);
    batchnorm::reestimate(
        std::tie(first, second), batches, [&](const Batch& x) { second.forward(activation(first.forward(x))); },
        pooling);
    check_running(first, expected_statistics(batches, pooling, true));
    const auto expected = expected_statistics(hidden, pooling, true);
    for (std::size_t c = 0; c < 5; ++c) {
      const auto at = static_cast<Eigen::Index>(c);
      // What came in is off by 1e-6 of its size, which is some standard deviations.
      CHECK(std::abs(static_cast<Real>(second.running_mean()(at)) - expected.mean[c]) < 2e-6L * expected.mean[c]);
      CHECK(std::abs(static_cast<Real>(second.running_var()(at)) / expected.var[c] - 1) < 1e-5L);
    }
    CHECK(first.num_batches_tracked() == 4);
    CHECK(second.num_batches_tracked() == 4);
    CHECK(rest_of(first) == rest_of_first);
    CHECK(rest_of(second) == rest_of_second);
  }
}

TEST_CASE("through a function of the user's one layer gets what it gets without") {
  const auto batches = uneven_batches();
  for (const Pooling pooling : poolings) {
    Layer plain(5), run(5);
    batchnorm::reestimate(plain, batches, pooling);
    std::vector<std::pair<Batch, int>> labelled;
    for (const auto& batch : batches) labelled.emplace_back(batch, 0);
    batchnorm::reestimate(
        run, labelled, [&](const auto& each) { run.forward(each.first); }, pooling);
    for (Eigen::Index c = 0; c < 5; ++c) {
      // A forward sums in float for a few additions at a time.
      CHECK(std::abs(run.running_mean()(c) - plain.running_mean()(c)) < 1e-6F * std::sqrt(plain.running_var()(c)));
      CHECK(std::abs(run.running_var()(c) / plain.running_var()(c) - 1) < 1e-6F);
    }
    CHECK(run.num_batches_tracked() == plain.num_batches_tracked());
  }
}

TEST_CASE("the layers of a network may be of several ranks and types, in tuples, ranges and pointers") {
  BatchNorm<float, 2> stem(3), head(3);
  std::vector<BatchNorm<float, 2>> blocks(2, BatchNorm<float, 2>(3));
  std::vector<std::unique_ptr<BatchNorm<float, 3>>> owned;
  owned.push_back(std::make_unique<BatchNorm<float, 3>>(3));
  BatchNorm<double, 2> wide(3);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(8, 3) * 5;
  const auto run = [&](const Eigen::MatrixXf& batch) {
    Eigen::MatrixXf h = stem.forward(batch);
    for (auto& block : blocks) h = (block.forward(h).array() * 2 + 7).matrix();
    Eigen::Tensor<float, 3> t(8, 3, 1);
    std::copy(h.data(), h.data() + h.size(), t.data());
    owned[0]->forward(t);
    wide.forward(h.cast<double>());
    head.forward(h);
  };
  const std::array<std::reference_wrapper<BatchNorm<float, 2>>, 1> wrapped{std::ref(head)};
  batchnorm::reestimate(std::make_tuple(std::ref(stem), &blocks, std::ref(wide)), std::array<Eigen::MatrixXf, 1>{x},
                        run);
  CHECK(stem.num_batches_tracked() == 1);
  CHECK(wide.num_batches_tracked() == 1);
  CHECK(std::abs(blocks[1].running_mean()(2) - 7) < 1e-5F);
  CHECK(head.num_batches_tracked() == 1);  // not named: it trained as ever
  CHECK(std::abs(head.running_mean()(0) - 0.7F) < 1e-6F);
  batchnorm::reestimate(std::tie(blocks, owned, wrapped), std::array<Eigen::MatrixXf, 1>{x}, run);
  CHECK(std::abs(head.running_mean()(0) - 7) < 1e-5F);
  CHECK(std::abs(owned[0]->running_mean()(0) - 7) < 1e-5F);
}

TEST_CASE("a layer that runs twice on a batch has the statistics of both") {
  Layer bn(5);
  const auto batches = uneven_batches();
  const auto all = joined(batches);
  batchnorm::reestimate(bn, std::array<int, 1>{0}, [&](int) {
    for (const auto& batch : batches) bn.forward(batch);
  });
  check_running(bn, expected_statistics({all}, Pooling::all_values, true));
  CHECK(bn.num_batches_tracked() == 1);
}

TEST_CASE("a function that throws in the middle leaves each layer as it was") {
  const auto batches = uneven_batches();
  auto first = trained_layer(BatchNormOptions(5)), second = trained_layer(BatchNormOptions(5));
  const auto before_first = snapshot(first), before_second = snapshot(second);
  int calls = 0;
  const auto run = [&](const Batch& x) {
    second.forward(first.forward(x));
    if (++calls == 2) throw std::runtime_error("the user's");
  };
  CHECK_THROWS_AS(batchnorm::reestimate(std::tie(first, second), batches, run), std::runtime_error);
  CHECK(snapshot(first) == before_first);
  CHECK(snapshot(second) == before_second);
  first.forward(batches[0]);  // and trains as ever
  CHECK(first.num_batches_tracked() == 2);
}

TEST_CASE("what reestimate cannot do it says, and every layer stays as it was") {
  const auto batches = uneven_batches();
  auto first = trained_layer(BatchNormOptions(5)), second = trained_layer(BatchNormOptions(5));
  const auto before_first = snapshot(first), before_second = snapshot(second);
  const std::vector<Batch> none, empty{Batch(0, 5, 4)};
  const auto run = [&](const Batch& x) { first.forward(x); };
  CHECK_THROWS_MATCHES(batchnorm::reestimate(first, none), std::invalid_argument,
                       Message("batchnorm: expected at least one batch that has values, got none"));
  CHECK_THROWS_AS(batchnorm::reestimate(first, empty), std::invalid_argument);
  CHECK_THROWS_MATCHES(batchnorm::reestimate(first, none, run), std::invalid_argument,
                       Message("batchnorm: expected at least one batch, got none"));
  CHECK_THROWS_MATCHES(
      batchnorm::reestimate(std::tie(first, second), batches, run), std::logic_error,
      Message(
          "batchnorm: expected each layer to see values of a batch, got none in layer 1 of 2: the function that runs "
          "the network is to call its forward, of which infer is none"));
  CHECK_THROWS_AS(batchnorm::reestimate(first, batches, [&](const Batch& x) { first.infer(x); }), std::logic_error);
  CHECK_THROWS_AS(batchnorm::reestimate(first, empty, run), std::logic_error);
  CHECK_THROWS_MATCHES(
      batchnorm::reestimate(std::tie(first, first), batches, run), std::logic_error,
      Message("batchnorm: expected each layer once, got one whose statistics are being taken anew already"));
  CHECK_THROWS_MATCHES(batchnorm::reestimate(std::vector<Layer*>(), batches, run), std::invalid_argument,
                       Message("batchnorm: expected at least one layer, got none"));
  CHECK_THROWS_MATCHES(
      batchnorm::reestimate(first, std::vector<Batch>{batches[0], Batch(4, 3, 5)}), std::invalid_argument,
      Message("batchnorm: expected 5 channels on axis 1, got 3 in shape [4, 3, 5]; the last axis has 5: "
              "BatchNormOptions(5).channel_axis(-1)"));
  CHECK(snapshot(first) == before_first);
  CHECK(snapshot(second) == before_second);

  Layer lazy, untracked(BatchNormOptions(5).track_running_stats(false));
  CHECK_THROWS_AS(batchnorm::reestimate(lazy, batches), std::logic_error);
  CHECK_THROWS_AS(batchnorm::reestimate(std::tie(first, lazy), batches, run), std::logic_error);
  CHECK_THROWS_AS(batchnorm::reestimate(untracked, batches), std::invalid_argument);
  CHECK(snapshot(first) == before_first);
}

TEST_CASE("a copy that is made while statistics are taken anew trains by itself") {
  const auto batches = uneven_batches();
  Layer bn(5), copy(5), assigned(5);
  batchnorm::reestimate(bn, batches, [&](const Batch& x) {
    bn.forward(x);
    copy = bn;
    Layer another = bn;
    another.forward(x);
    assigned = std::move(another);
  });
  check_running(bn, expected_statistics(batches, Pooling::all_values, true));
  copy.forward(batches[0]);
  assigned.forward(batches[0]);
  CHECK(copy.num_batches_tracked() == 1);
  CHECK(assigned.num_batches_tracked() == 2);
}

TEST_CASE("a backward after reestimate goes through the forward before it") {
  const auto batches = uneven_batches();
  Random random(74);
  const auto dy = batch_of(7, 5, random, 0);
  Layer bn(5), other(5);
  bn.forward(batches[0]);
  other.forward(batches[0]);
  batchnorm::reestimate(bn, batches, [&](const Batch& x) { bn.forward(x); });
  const Batch dx = bn.backward(batches[0], dy), expected = other.backward(batches[0], dy);
  CHECK(std::equal(dx.data(), dx.data() + dx.size(), expected.data()));
}
