// Every way to take statistics: switches, masks and weights, ghost batches, renormalization, mixed statistics, and
// parameters of the call.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "statistics_oracle.hpp"

namespace {

using batchnorm::Activation;
using batchnorm::affine;
using batchnorm::affine_grad;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::mask;
using batchnorm::sample_weight;
using batchnorm::Statistics;
using statistics_oracle::Case;
using statistics_oracle::Normalize;
using statistics_oracle::Real;
using statistics_oracle::Tensor4;
using statistics_oracle::Weights;
using Index = Eigen::Index;

template <class T, int Layout>
void check_cases(std::uint64_t seed, int count) {
  Random random(seed);
  const auto pick = [&](int n) { return static_cast<int>(random.uniform(0, n)); };
  for (int k = 0; k < count; ++k) {
    Case c{};
    for (auto& size : c.sizes) size = 1 + pick(4);
    c.axis = pick(4);
    if (pick(4) == 0) c.sizes[static_cast<std::size_t>(c.axis)] = 20;            // wide
    if (pick(4) == 0) c.sizes[static_cast<std::size_t>((c.axis + 1) % 4)] = 18;  // long rows, or columns
    c.group = pick(3) == 0 ? 0 : 1 + pick(3);
    c.normalize = static_cast<Normalize>(pick(4));
    c.weights = static_cast<Weights>(pick(5));
    c.per_sample = pick(3) == 0;
    c.activated = pick(3) == 0;
    try {
      const auto differences = statistics_oracle::compare<T, Layout>(c, seed + static_cast<std::uint64_t>(k));
      INFO(c << ": " << differences);
      CHECK(differences.template fit<T>());
    } catch (const std::invalid_argument& error) {
      INFO(c << ": " << error.what());
      // Of so few weights that they do not count samples there is no unbiased variance.
      CHECK(std::string(error.what()).find("that count samples") != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in double") {
  check_cases<double, Eigen::RowMajor>(1, 80);
  check_cases<double, Eigen::ColMajor>(2, 80);
}

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in float") {
  check_cases<float, Eigen::RowMajor>(3, 40);
}

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in half") {
  check_cases<Eigen::half, Eigen::RowMajor>(4, 30);
}

namespace {

using Tensor = Tensor4<double, Eigen::RowMajor>;
using Layer = BatchNorm<double, 4>;

Tensor random_tensor(Random& random, const std::array<Index, 4>& sizes) {
  Tensor result(sizes);
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = random.uniform(-1, 1);
  return result;
}

Tensor samples_of(const Tensor& x, Index begin, Index end) {
  const Index each = x.size() / x.dimension(0);
  Tensor result(end - begin, x.dimension(1), x.dimension(2), x.dimension(3));
  std::copy_n(x.data() + begin * each, result.size(), result.data());
  return result;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.size() == b.size());
  double result = 0;
  for (Index i = 0; i < a.size(); ++i) result = std::max(result, std::abs(a.data()[i] - b.data()[i]));
  return result;
}

template <class Values>
bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(*a.data()) * static_cast<std::size_t>(a.size())) == 0;
}

template <class Exception, class Call>
std::string message(const Call& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("each combination of mode and switches normalizes by its statistics and moves the running ones or not") {
  enum class Mode { train, eval };
  struct Row {
    Mode mode;
    std::optional<Statistics> asked;
    std::optional<bool> update;
    Statistics normalizes;
    bool moves;
  };
  const Statistics batch = Statistics::batch, running = Statistics::running, mixed = Statistics::mixed(4);
  const std::vector<Row> table = {
      {Mode::train, {}, {}, batch, true},
      {Mode::train, {}, false, batch, false},
      {Mode::train, {}, true, batch, true},
      {Mode::train, running, {}, running, true},
      {Mode::train, running, false, running, false},
      {Mode::train, running, true, running, true},
      {Mode::train, batch, false, batch, false},
      {Mode::train, mixed, {}, mixed, true},
      {Mode::train, mixed, false, mixed, false},
      {Mode::eval, {}, {}, running, false},
      {Mode::eval, {}, true, running, true},
      {Mode::eval, {}, false, running, false},
      {Mode::eval, batch, {}, batch, false},
      {Mode::eval, batch, true, batch, true},
      {Mode::eval, running, true, running, true},
      {Mode::eval, mixed, {}, mixed, false},
      {Mode::eval, mixed, true, mixed, true},
  };
  Random random(11);
  const Tensor x = random_tensor(random, {8, 3, 2, 2}), dy = random_tensor(random, {8, 3, 2, 2});
  for (std::size_t k = 0; k < table.size(); ++k) {
    const Row& row = table[k];
    INFO("row " << k);
    Layer layer(3);
    layer.set_running_mean({0.25, -0.5, 0.125}).set_running_var({2.0, 0.5, 1.0});
    if (row.asked) layer.normalize_with(*row.asked);
    if (row.update) layer.update_running_stats(*row.update);
    // Switches survive the mode, whichever comes last.
    layer.train(row.mode == Mode::eval).train(row.mode == Mode::train);
    Tensor copy = x;
    layer.forward(copy, copy);  // in place: the batch's moments are taken before x is gone
    const Tensor inferred = Layer(layer).infer(x);
    for (Index c = 0; c < 3; ++c) {
      Real mean = 0, variance = 0;
      const auto each = [&](const auto& f) {
        for (Index n = 0; n < 8; ++n) {
          for (Index i = 0; i < 4; ++i) f(n, i / 2, i % 2);
        }
      };
      each([&](Index n, Index i, Index j) { mean += x(n, c, i, j) / 32.0L; });
      each([&](Index n, Index i, Index j) { variance += (x(n, c, i, j) - mean) * (x(n, c, i, j) - mean) / 32.0L; });
      const Real old_mean = c == 0 ? 0.25L : c == 1 ? -0.5L : 0.125L, old_variance = c == 0 ? 2 : c == 1 ? 0.5L : 1;
      const Real new_mean = row.moves ? 0.9L * old_mean + 0.1L * mean : old_mean;
      const Real new_variance = row.moves ? 0.9L * old_variance + 0.1L * variance * 32 / 31 : old_variance;
      CHECK(std::abs(layer.running_mean()(c) - new_mean) < 1e-14L);
      CHECK(std::abs(layer.running_var()(c) - new_variance) < 1e-14L);
      const auto normalized = [&](const Statistics& by, Real running_mean, Real running_variance) {
        const Real share = by.is_mixed() ? 8.0L / 12 : by == batch ? 1 : 0;
        return (x(3, c, 1, 0) - (share * mean + (1 - share) * running_mean)) /
               std::sqrt(share * variance + (1 - share) * running_variance + 1e-5L);
      };
      CHECK(std::abs(copy(3, c, 1, 0) - normalized(row.normalizes, old_mean, old_variance)) < 1e-13L);
      // infer obeys what was asked for, else it is inference; by the running statistics as they are now.
      CHECK(std::abs(inferred(3, c, 1, 0) - normalized(row.asked.value_or(running), new_mean, new_variance)) < 1e-13L);
    }
    CHECK(layer.num_batches_tracked() == (row.moves ? 1 : 0));
    CHECK(layer.saved_statistics().constant() == (row.normalizes == running));
    layer.follow_mode();
    CHECK_FALSE(layer.normalize_with().has_value());
    CHECK_FALSE(layer.update_running_stats().has_value());
  }
}

TEST_CASE("a forward done again with updates switched off gives the same bits and leaves the running statistics") {
  Random random(12);
  const Tensor x = random_tensor(random, {4, 3, 2, 2}), dy = random_tensor(random, {4, 3, 2, 2});
  Layer layer(3);
  const Tensor y = layer.forward(x);
  const auto mean = layer.running_mean();
  layer.update_running_stats(false);
  CHECK(same_bits(layer.forward(x), y));
  CHECK(same_bits(layer.running_mean(), mean));
  CHECK(layer.num_batches_tracked() == 1);
}

TEST_CASE("what is asked of a layer without running statistics is an error that names the option") {
  Random random(13);
  const Tensor x = random_tensor(random, {4, 3, 2, 2});
  Layer layer(BatchNormOptions(3).track_running_stats(false));
  for (const Statistics& statistics : {Statistics(Statistics::running), Statistics::mixed(2)}) {
    layer.normalize_with(statistics);
    CHECK(contains(message<std::logic_error>([&] { layer.forward(x); }), "track_running_stats(false)"));
    CHECK(contains(message<std::logic_error>([&] { layer.infer(x); }), "track_running_stats(false)"));
  }
  CHECK_FALSE(layer.saved_statistics().has_forward());
  CHECK(contains(message<std::invalid_argument>([&] { layer.renorm(2, 1); }), "track_running_stats(true)"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(Statistics::mixed(-1)); }), "got -1"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).renorm(0.5, 1)); }),
                 "expected a finite r_max of at least 1, got 0.5"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).renorm(2, -1)); }),
                 "d_max of at least 0, got -1"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).virtual_batch_size(0)); }),
                 "virtual_batch_size of at least 1, got 0"));
  const BatchNormOptions copy = BatchNormOptions(3).virtual_batch_size(2);
  CHECK(contains(message<std::invalid_argument>([&] { Layer other(copy); }), "keep them as auto"));
}

TEST_CASE("a NaN or an infinity under a mask or weight 0 leaks into nothing") {
  const double bad[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()};
  for (const double value : bad) {
    for (const bool is_mask : {true, false}) {
      for (const Index inner : {1, 3, 20}) {  // by columns, and by rows
        INFO(value << (is_mask ? " under a mask, " : " under weight 0, ") << inner);
        Random random(14);
        Tensor x = random_tensor(random, {6, 5, inner, 1}), dy = random_tensor(random, {6, 5, inner, 1});
        Tensor clean_x = x, clean_dy = dy;
        Eigen::Tensor<double, 3, Eigen::RowMajor> w(6, inner, 1);
        w.setConstant(1);
        for (const Index n : {0, 2, 5}) {
          w(n, inner - 1, 0) = 0;
          for (Index c = 0; c < 5; ++c) {
            x(n, c, inner - 1, 0) = dy(n, c, inner - 1, 0) = value;
            clean_x(n, c, inner - 1, 0) = 7;
            clean_dy(n, c, inner - 1, 0) = 0;
          }
        }
        Layer layer(5), other(5);
        Tensor y, dx, clean_y, clean_dx;
        if (is_mask) {
          y = layer.forward(x, mask(w)), dx = layer.backward(x, dy, mask(w));
          clean_y = other.forward(clean_x, mask(w)), clean_dx = other.backward(clean_x, clean_dy, mask(w));
        } else {
          y = layer.forward(x, sample_weight(w)), dx = layer.backward(x, dy, sample_weight(w));
          clean_y = other.forward(clean_x, sample_weight(w));
          clean_dx = other.backward(clean_x, clean_dy, sample_weight(w));
        }
        for (Index n = 0; n < 6; ++n) {
          for (Index c = 0; c < 5; ++c) {
            for (Index i = 0; i < inner; ++i) {
              if (w(n, i, 0) == 0) {
                if (is_mask) {
                  CHECK(y(n, c, i, 0) == 0);
                  CHECK(dx(n, c, i, 0) == 0);
                }
                continue;
              }
              CHECK(y(n, c, i, 0) == clean_y(n, c, i, 0));
              CHECK(dx(n, c, i, 0) == clean_dx(n, c, i, 0));
            }
          }
        }
        CHECK(same_bits(layer.running_mean(), other.running_mean()));
        CHECK(same_bits(layer.running_var(), other.running_var()));
        CHECK(same_bits(layer.weight_grad(), other.weight_grad()));
        CHECK(same_bits(layer.bias_grad(), other.bias_grad()));
        const Tensor inferred = layer.infer(x, mask(w));
        CHECK(inferred(0, 0, inner - 1, 0) == 0);
      }
    }
  }
}

TEST_CASE("integer weights give what samples give that are repeated as often") {
  Random random(15);
  const Tensor x = random_tensor(random, {5, 3, 2, 2}), dy = random_tensor(random, {5, 3, 2, 2});
  const std::vector<int> times = {1, 3, 0, 2, 1};
  Tensor repeated(7, 3, 2, 2), repeated_dy(7, 3, 2, 2);
  std::vector<Index> origin;
  for (Index n = 0; n < 5; ++n) {
    for (int k = 0; k < times[static_cast<std::size_t>(n)]; ++k) origin.push_back(n);
  }
  for (Index n = 0; n < 7; ++n) {
    const Index from = origin[static_cast<std::size_t>(n)];
    for (Index i = 0; i < 12; ++i) {
      repeated.data()[n * 12 + i] = x.data()[from * 12 + i];
      // k copies share the gradient of what they are copies of.
      repeated_dy.data()[n * 12 + i] = dy.data()[from * 12 + i] / times[static_cast<std::size_t>(from)];
    }
  }
  Tensor weighted_dy = dy;
  for (Index i = 0; i < 12; ++i) weighted_dy.data()[2 * 12 + i] = 0;  // of no copy there is no gradient
  Layer layer(3), other(3);
  const Tensor y = layer.forward(x, sample_weight(times)), dx = layer.backward(x, weighted_dy, sample_weight(times));
  const Tensor other_y = other.forward(repeated), other_dx = other.backward(repeated, repeated_dy);
  for (Index n = 0; n < 7; ++n) {
    const Index from = origin[static_cast<std::size_t>(n)];
    CHECK(largest_difference(samples_of(y, from, from + 1), samples_of(other_y, n, n + 1)) < 1e-14);
  }
  for (Index from : {0, 1, 3, 4}) {
    Tensor sum(1, 3, 2, 2);
    sum.setZero();
    for (Index n = 0; n < 7; ++n) {
      if (origin[static_cast<std::size_t>(n)] == from) sum += samples_of(other_dx, n, n + 1);
    }
    CHECK(largest_difference(samples_of(dx, from, from + 1), sum) < 1e-14);
  }
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::abs(layer.running_mean()(c) - other.running_mean()(c)) < 1e-15);
    CHECK(std::abs(layer.running_var()(c) - other.running_var()(c)) < 1e-15);
    CHECK(std::abs(layer.weight_grad()(c) - other.weight_grad()(c)) < 1e-14);
  }
}

TEST_CASE("ghost batches give the bits of separate layers, and the running statistics move once") {
  Random random(16);
  const Tensor x = random_tensor(random, {10, 4, 3, 2}), dy = random_tensor(random, {10, 4, 3, 2});
  Layer layer(BatchNormOptions(4).virtual_batch_size(4));
  const Tensor y = layer.forward(x), dx = layer.backward(x, dy);
  CHECK(layer.num_batches_tracked() == 1);
  CHECK(layer.saved_statistics().mean().size() == 12);
  for (Index begin = 0, group = 0; begin < 10; begin += 4, ++group) {
    const Index end = std::min<Index>(10, begin + 4);
    Layer alone(4);
    const Tensor part = samples_of(x, begin, end);
    CHECK(same_bits(samples_of(y, begin, end), alone.forward(part)));
    CHECK(largest_difference(samples_of(dx, begin, end), alone.backward(part, samples_of(dy, begin, end))) < 1e-14);
    for (Index c = 0; c < 4; ++c) {
      CHECK(layer.saved_statistics().mean()(group * 4 + c) == alone.saved_statistics().mean()(c));
    }
  }
}

TEST_CASE("renormalization by 1 and 0 is plain batch normalization, and clipped_share counts what is clipped") {
  Random random(17);
  const Tensor x = random_tensor(random, {10, 4, 3, 2}), dy = random_tensor(random, {10, 4, 3, 2});
  Layer renormalized(BatchNormOptions(4).renorm(1, 0)), plain(4);
  CHECK(renormalized.clipped_share() == 0);
  CHECK(same_bits(renormalized.forward(x), plain.forward(x)));
  CHECK(largest_difference(renormalized.backward(x, dy), plain.backward(x, dy)) < 1e-14);
  CHECK(same_bits(renormalized.running_var(), plain.running_var()));
  CHECK(renormalized.clipped_share() == 1);
  // Two channels have the running statistics of the batch, so that nothing is to clip there.
  for (Index c = 0; c < 2; ++c) {
    renormalized.running_mean()(c) = plain.saved_statistics().mean()(c);
    renormalized.running_var()(c) = std::pow(plain.saved_statistics().inv_std()(c), -2) - 1e-5;
  }
  renormalized.renorm(1.0 + 1e-9, 1e-9).update_running_stats(false).forward(x);
  CHECK(renormalized.clipped_share() == 0.5);
  renormalized.renorm(100, 100).forward(x);
  CHECK(renormalized.clipped_share() == 0);
  // With limits that do not bind, training gives what inference gives.
  CHECK(largest_difference(renormalized.forward(x), renormalized.infer(x)) < 1e-13);
}

TEST_CASE("a batch of which everything is masked behaves as an empty one") {
  Random random(18);
  const Tensor x = random_tensor(random, {3, 4, 2, 2}), dy = random_tensor(random, {3, 4, 2, 2});
  const std::vector<bool> nothing(3, false);
  Layer layer(4);
  Tensor y = layer.forward(x, mask(nothing)), dx = layer.backward(x, dy, mask(nothing));
  const Tensor zero = x * 0.0;
  CHECK(largest_difference(y, zero) == 0);
  CHECK(largest_difference(dx, zero) == 0);
  CHECK(layer.num_batches_tracked() == 0);
  CHECK(layer.running_var()(0) == 1);
  CHECK(layer.weight_grad()(0) == 0);
  // Weights that are all 0 leave nothing to normalize by: y is the bias.
  layer.bias().setConstant(0.5);
  y = layer.forward(x, sample_weight(std::vector<double>(3, 0.0)));
  CHECK(y(2, 1, 1, 1) == 0.5);
  CHECK(layer.num_batches_tracked() == 0);
}

TEST_CASE("what single values mean is asked of what takes part") {
  Random random(19);
  const Tensor x = random_tensor(random, {3, 4, 1, 1});
  const std::vector<int> one = {0, 1, 0};
  Layer strict(4), lenient(BatchNormOptions(4).single_value(batchnorm::SingleValue::allow));
  CHECK(contains(message<std::invalid_argument>([&] { strict.forward(x, mask(one)); }), "more than one value"));
  lenient.forward(x, mask(one));
  CHECK(lenient.running_var()(0) == 0.9);
  CHECK(lenient.num_batches_tracked() == 1);
  Layer grouped(BatchNormOptions(4).virtual_batch_size(2));  // the last group has one value
  CHECK(contains(message<std::invalid_argument>([&] { grouped.forward(x); }), "more than one value"));
  CHECK(
      contains(message<std::invalid_argument>([&] { strict.forward(x, sample_weight(std::vector<double>(3, 0.25))); }),
               "a sum above 1"));
  CHECK(strict.num_batches_tracked() == 0);
  CHECK_FALSE(strict.saved_statistics().has_forward());
}

TEST_CASE("wrong masks, weights and parameters are errors that say what was expected, and change nothing") {
  Random random(20);
  const Tensor x = random_tensor(random, {3, 4, 2, 5}), dy = random_tensor(random, {3, 4, 2, 5});
  Layer layer(4);
  const auto thrown = [&](const auto&... tags) {
    return message<std::invalid_argument>([&] { layer.forward(x, tags...); });
  };
  CHECK(contains(thrown(mask(std::vector<bool>(4))), "the mask of 3 samples, got 4"));
  CHECK(contains(thrown(sample_weight(Eigen::VectorXd(2))), "the sample weights of 3 samples, got 2"));
  CHECK(contains(thrown(mask(Eigen::Tensor<bool, 3, Eigen::RowMajor>(3, 5, 2))), "[3, 2, 5], got [3, 5, 2]"));
  CHECK(contains(thrown(mask(std::vector<double>{0, 1, 0.5})), "a mask of 0 and 1, got another value at place 2"));
  CHECK(contains(thrown(sample_weight(std::vector<double>{1, -1, 1})), "at least 0, got another value at place 1"));
  CHECK(contains(thrown(sample_weight(std::vector<float>{1, std::nanf(""), 1})), "at place 1"));
  CHECK(contains(thrown(sample_weight(std::vector<double>{1, 1, HUGE_VAL})), "at place 2"));
  CHECK(
      contains(thrown(affine(Eigen::VectorXd::Ones(3).eval(), Eigen::VectorXd::Zero(4).eval())), "4 channels, got 3"));
  CHECK(contains(thrown(affine(Eigen::MatrixXd(3, 4), Eigen::MatrixXd(4, 3))), "[3, 4], got [4, 3]"));
  CHECK_FALSE(layer.saved_statistics().has_forward());
  CHECK(layer.num_batches_tracked() == 0);

  const std::vector<int> m = {1, 1, 0}, other = {1, 0, 0};
  layer.forward(x, mask(m));
  const auto refused = [&](const auto&... tags) {
    return message<std::logic_error>([&] { layer.backward(x, dy, tags...); });
  };
  CHECK(contains(refused(), "expected mask(m) in backward"));
  CHECK(contains(refused(sample_weight(m)), "expected mask(m) in backward, as in its forward, got sample_weight(w)"));
  CHECK(contains(refused(mask(other)), "another sum"));
  layer.forward(x);
  CHECK(contains(refused(mask(m)), "expected neither mask(m) nor sample_weight(w)"));
  const Eigen::VectorXd weight = Eigen::VectorXd::Ones(4);
  CHECK(contains(refused(affine(weight, weight)), "got affine(weight, bias)"));
  layer.forward(x, affine(weight, weight));
  CHECK(contains(refused(), "expected affine(weight, bias)"));
  CHECK(layer.weight_grad()(0) == 0);
}

TEST_CASE("a call's parameters per channel are those of a layer, and leave the layer's own alone") {
  Random random(21);
  const Tensor x = random_tensor(random, {6, 4, 2, 5}), dy = random_tensor(random, {6, 4, 2, 5});
  Eigen::VectorXd weight(4), bias(4), dweight(4), dbias(4);
  for (Index c = 0; c < 4; ++c) weight(c) = random.uniform(-1, 1), bias(c) = random.uniform(-1, 1);
  Layer layer(BatchNormOptions(4).affine(false)), other(4);
  other.set_weight(weight).set_bias(bias);
  CHECK(same_bits(layer.forward(x, affine(weight, bias)), other.forward(x)));
  const Tensor dx = layer.backward(x, dy, affine(weight, bias), affine_grad(dweight, dbias));
  CHECK(largest_difference(dx, other.backward(x, dy)) < 1e-14);
  for (Index c = 0; c < 4; ++c) {
    CHECK(std::abs(dweight(c) - other.weight_grad()(c)) < 1e-13);
    CHECK(std::abs(dbias(c) - other.bias_grad()(c)) < 1e-13);
  }
  CHECK(same_bits(layer.infer(x, affine(weight, bias)), other.infer(x)));
}

TEST_CASE("extended passes give the same bits on any number of threads, in either layout") {
  const auto check = [](auto layout, int axis) {
    using X = Tensor4<float, decltype(layout)::value>;
    Random random(22);
    X x(24, 96, 16, 20), dy(24, 96, 16, 20);
    if (axis == 3) x.resize(24, 16, 20, 96), dy.resize(24, 16, 20, 96);
    for (Index i = 0; i < x.size(); ++i) {
      x.data()[i] = static_cast<float>(random.uniform(-1, 3));
      dy.data()[i] = static_cast<float>(random.uniform(-1, 1));
    }
    std::vector<float> w(24);
    for (auto& value : w) value = static_cast<float>(std::floor(random.uniform(0, 4)));
    Eigen::Tensor<float, 2, Eigen::RowMajor> weight(24, 96), bias(24, 96);
    weight.setRandom();
    bias.setRandom();
    const auto run = [&](const auto& device) {
      BatchNorm<float, 4> layer(BatchNormOptions(96).channel_axis(axis).virtual_batch_size(7));
      X y(x.dimensions()), dx(x.dimensions());
      layer.forward(device, x, y, sample_weight(w), affine(weight, bias));
      layer.backward(device, x, dy, dx, sample_weight(w), affine(weight, bias));
      std::vector<float> all(y.data(), y.data() + y.size());
      all.insert(all.end(), dx.data(), dx.data() + dx.size());
      all.insert(all.end(), layer.running_var().data(), layer.running_var().data() + 96);
      return all;
    };
    const auto alone = run(Eigen::DefaultDevice());
    for (const int threads : {2, 3, 5}) {
      Eigen::ThreadPool pool(threads);
      INFO(threads << " threads, channels on axis " << axis);
      CHECK(same_bits(run(Eigen::ThreadPoolDevice(&pool, threads)), alone));
    }
  };
  check(std::integral_constant<int, Eigen::RowMajor>(), 1);
  check(std::integral_constant<int, Eigen::RowMajor>(), 3);
  check(std::integral_constant<int, Eigen::ColMajor>(), 1);
}

TEST_CASE("matrices take masks, weights, ghost batches and parameters of the call as tensors do, blocks in place") {
  Random random(23);
  const Index n = 21, channels = 5;
  for (const int axis : {1, 0}) {
    Eigen::MatrixXd big(n + 3, n + 4), dbig(n + 3, n + 4);
    for (Index i = 0; i < big.size(); ++i)
      big.data()[i] = random.uniform(-1, 1), dbig.data()[i] = random.uniform(-1, 1);
    const Eigen::MatrixXd before = big;
    const Index rows = axis == 1 ? n : channels, columns = axis == 1 ? channels : n;
    auto x = big.block(1, 2, rows, columns);
    const auto dy = dbig.block(0, 1, rows, columns);
    Eigen::Tensor<double, 2> tensor(rows, columns), tensor_dy(rows, columns);
    for (Index j = 0; j < columns; ++j) {
      for (Index i = 0; i < rows; ++i) tensor(i, j) = x(i, j), tensor_dy(i, j) = dy(i, j);
    }
    Eigen::Array<bool, Eigen::Dynamic, 1> m(n);
    Eigen::MatrixXd weight(n, channels), bias(n, channels), dweight(n, channels), dbias(n, channels);
    for (Index i = 0; i < n; ++i) m(i) = random.uniform(0, 1) < 0.7;
    for (Index i = 0; i < weight.size(); ++i)
      weight.data()[i] = random.uniform(-1, 1), bias.data()[i] = random.uniform(-1, 1);
    const auto options =
        BatchNormOptions(channels).channel_axis(axis).virtual_batch_size(8).activation(Activation::relu);
    BatchNorm<double, 2> layer(options), other(options);
    const Eigen::MatrixXd y = layer.forward(x, mask(m), affine(weight, bias));
    const Eigen::Tensor<double, 2> expected = other.forward(tensor, mask(m), affine(weight, bias));
    CHECK(same_bits(y, Eigen::MatrixXd(Eigen::Map<const Eigen::MatrixXd>(expected.data(), rows, columns))));
    Eigen::MatrixXd dx(rows, columns);
    layer.backward(x, dy, dx, mask(m), affine(weight, bias), affine_grad(dweight, dbias));
    const Eigen::Tensor<double, 2> expected_dx = other.backward(tensor, tensor_dy, mask(m), affine(weight, bias));
    CHECK(same_bits(dx, Eigen::MatrixXd(Eigen::Map<const Eigen::MatrixXd>(expected_dx.data(), rows, columns))));
    layer.forward(x, x, mask(m), affine(weight, bias));  // in place
    CHECK(Eigen::MatrixXd(x) == y);
    x = before.block(1, 2, rows, columns);
    CHECK(big == before);  // no neighbour was touched
  }
}

TEST_CASE("weighted moments are those of repeated samples, and pool with others by what they weigh") {
  Random random(24);
  const Tensor x = random_tensor(random, {5, 3, 2, 2});
  const std::vector<int> times = {1, 3, 0, 2, 1};
  batchnorm::Moments weighted(3), repeated(3);
  weighted.add(x, sample_weight(times)).add(x, mask(std::vector<bool>{true, false, true, false, false}));
  for (Index n = 0; n < 5; ++n) {
    const int also = n == 0 || n == 2 ? 1 : 0;
    for (int k = 0; k < times[static_cast<std::size_t>(n)] + also; ++k) repeated.add(samples_of(x, n, n + 1));
  }
  CHECK(weighted.total_weight() == static_cast<double>(repeated.count()));
  CHECK(weighted.count() == (4 + 2) * 4);  // values of weight above 0
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::abs(weighted.mean()(c) - repeated.mean()(c)) < 1e-15);
    CHECK(std::abs(weighted.M2()(c) - repeated.M2()(c)) < 1e-14);
    CHECK(std::abs(weighted.variance(batchnorm::Variance::unbiased)(c) -
                   repeated.variance(batchnorm::Variance::unbiased)(c)) < 1e-15);
  }
  CHECK(contains(message<std::invalid_argument>([&] {
                   weighted.add(x, sample_weight(std::vector<int>{1, 2}));
                 }),
                 "5 samples, got 2"));
  CHECK(weighted.count() == 24);
}

TEST_CASE("a mask of samples gives what the other samples give alone, with a residual and relu too") {
  Random random(25);
  const Tensor x = random_tensor(random, {6, 4, 3, 2}), r = random_tensor(random, {6, 4, 3, 2}),
               dy = random_tensor(random, {6, 4, 3, 2});
  const std::vector<bool> m = {true, true, true, false, true, false};
  const std::vector<Index> kept = {0, 1, 2, 4};
  const auto only = [&](const Tensor& of) {
    Tensor result(4, 4, 3, 2);
    for (std::size_t k = 0; k < kept.size(); ++k) {
      std::copy_n(of.data() + kept[k] * 24, 24, result.data() + static_cast<Index>(k) * 24);
    }
    return result;
  };
  for (const bool activated : {true, false}) {
    const auto options = BatchNormOptions(4).activation(activated ? Activation(Activation::relu) : Activation::none);
    Layer masked(options), alone(options);
    const Tensor y = masked.forward(x, mask(m), batchnorm::residual(r));
    const auto [dx, dr] = masked.backward(x, dy, batchnorm::output(y), mask(m));
    const Tensor other_y = alone.forward(only(x), batchnorm::residual(only(r)));
    const auto [other_dx, other_dr] = alone.backward(only(x), only(dy), batchnorm::output(other_y));
    CHECK(largest_difference(only(y), other_y) < 1e-14);
    CHECK(largest_difference(only(dx), other_dx) < 1e-14);
    CHECK(largest_difference(only(dr), other_dr) == 0);
    for (const Index n : {3, 5}) {
      CHECK(largest_difference(samples_of(y, n, n + 1), samples_of(y, n, n + 1) * 0.0) == 0);
      CHECK(largest_difference(samples_of(dr, n, n + 1), samples_of(dr, n, n + 1) * 0.0) == 0);
      CHECK(largest_difference(samples_of(dx, n, n + 1), samples_of(dx, n, n + 1) * 0.0) == 0);
    }
  }
}
