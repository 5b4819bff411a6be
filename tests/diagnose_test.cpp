// Layers as text, and what diagnose tells of them.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/diagnose.hpp>

#include <cmath>
#include <iomanip>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::Activation;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::diagnose;
using batchnorm::Diagnosis;
using batchnorm::DiagnosisLimits;
using batchnorm::Moments;
using batchnorm::SingleValue;
using batchnorm::Variance;
using Layer = BatchNorm<float, 2>;
using Channels = std::vector<Eigen::Index>;

template <class Any>
std::string text(const Any& any) {
  std::ostringstream out;
  out << any;
  return out.str();
}

bool says(const Diagnosis& diagnosis, const std::string& part) {
  return text(diagnosis).find(part) != std::string::npos;
}

Eigen::MatrixXf data(Eigen::Index samples, Eigen::Index channels) {
  Random random(81);
  Eigen::MatrixXf x(samples, channels);
  for (Eigen::Index c = 0; c < channels; ++c) {
    for (Eigen::Index i = 0; i < samples; ++i) {
      x(i, c) = static_cast<float>(random.uniform(-1, 1) * static_cast<double>(c + 1) + 10.0 * static_cast<double>(c));
    }
  }
  return x;
}

// Its running statistics are those of the data.
Layer settled_layer(const Eigen::MatrixXf& x) {
  Layer bn(x.cols());
  batchnorm::reestimate(bn, std::vector<Eigen::MatrixXf>(50, x));
  bn.forward(x);
  return bn;
}

Channels channels_of(const std::vector<Diagnosis::Drift>& drifted) {
  Channels result;
  for (const auto& each : drifted) result.push_back(each.channel);
  return result;
}

}  // namespace

TEST_CASE("a layer is shown as PyTorch shows one") {
  CHECK(text(BatchNorm<float, 4>(64)) ==
        "BatchNorm<float, 4>(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");
  CHECK(text(BatchNorm<double, 2>(BatchNormOptions(3).affine(false).momentum(std::nullopt).epsilon(0.001))) ==
        "BatchNorm<double, 2>(3, eps=0.001, momentum=None, affine=False, track_running_stats=True)");
}

TEST_CASE("what is not at its default is shown too") {
  CHECK(text(BatchNorm<Eigen::half, 3>(BatchNormOptions::keras(8).track_running_stats(false).shift(false))) ==
        "BatchNorm<Eigen::half, 3>(8, eps=0.001, momentum=0.01, scale=True, shift=False, track_running_stats=False, "
        "running_variance=biased, channel_axis=-1, single_value=allow)");
  BatchNorm<Eigen::bfloat16, 2> relu(BatchNormOptions(8).activation(Activation::relu));
  relu.eval().check_backward(true);
  CHECK(text(relu) ==
        "BatchNorm<Eigen::bfloat16, 2>(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, "
        "activation=relu, training=False, check_backward=True)");
  const auto leaky = BatchNormOptions(8).single_value(SingleValue::skip_update).activation(Activation::leaky_relu(0.2));
  CHECK(text(BatchNorm<float, 2>(leaky)) ==
        "BatchNorm<float, 2>(8, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True, "
        "single_value=skip_update, activation=leaky_relu(0.2))");
  CHECK(text(BatchNorm<float, 2>(BatchNormOptions(8).single_value(SingleValue::use_running)))
            .find("single_value=use_running") != std::string::npos);
}

TEST_CASE("a layer without channels is shown as lazy, and becomes one with them") {
  Layer lazy;
  CHECK(text(lazy) == "BatchNorm<float, 2>(lazy, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");
  lazy.forward(data(4, 3));
  CHECK(text(lazy) == "BatchNorm<float, 2>(3, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)");
}

TEST_CASE("the flags of a stream do not change how a layer looks, and stay as they are") {
  std::ostringstream out;
  out << std::hex << std::fixed << std::setprecision(1) << Layer(64) << ' ' << 255;
  CHECK(out.str() == "BatchNorm<float, 2>(64, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True) ff");
}

TEST_CASE("a layer whose running statistics are those of its data has nothing to tell") {
  const auto bn = settled_layer(data(100, 3));
  const auto before = snapshot(bn);
  const Diagnosis found = diagnose(bn);
  CHECK(found.healthy());
  CHECK(found.channels == 3);
  CHECK(found.values == 100);
  CHECK(found.num_batches_tracked == 51);
  CHECK(text(found) == "Nothing is wrong with the 3 channels.\n");
  CHECK(snapshot(bn) == before);
}

TEST_CASE("channels whose running statistics are far from the batch are named with what inference makes of them") {
  const Eigen::MatrixXf x = data(100, 4);
  auto bn = settled_layer(x);
  bn.running_mean()(1) += 3 * std::sqrt(bn.running_var()(1));
  bn.running_var()(3) *= 16;
  const Diagnosis found = diagnose(bn);
  CHECK_FALSE(found.healthy());
  CHECK(channels_of(found.drifted) == Channels{1, 3});
  for (const auto& each : found.drifted) {
    // What inference makes of the data, without weight and bias.
    const Eigen::VectorXf z = bn.infer(x).col(each.channel);
    const double mean = z.cast<double>().mean();
    const double std = std::sqrt((z.cast<double>().array() - mean).square().sum() / 99);
    CHECK(std::abs(each.mean_shift - mean) < 1e-5);
    CHECK(std::abs(each.std_ratio - std) < 1e-5);
  }
  CHECK(says(found, "Channel 1 has drifted: its running mean is "));
  CHECK(says(found, "Channel 3 has drifted"));
  CHECK(says(found, "inference gives these data a mean of -3 and a standard deviation of 1, where training gives 0"));
  CHECK(says(found, "call reestimate with some batches"));
}

TEST_CASE("a training of few batches is told how much of the beginning is left") {
  Layer bn(2);
  const Eigen::MatrixXf x = (data(100, 2).array() + 20).matrix();
  for (int i = 0; i < 5; ++i) bn.forward(x);
  const Diagnosis found = diagnose(bn);
  CHECK(channels_of(found.drifted) == Channels{0, 1});
  CHECK(std::abs(found.initial_share - 0.59049) < 1e-12);
  CHECK(says(found, "the initial mean 0 and variance 1 still make up 59 % of them, after 5 batches"));
  Layer average(BatchNormOptions(2).momentum(std::nullopt));
  CHECK(diagnose(average).initial_share == 1);
  average.forward(x);
  CHECK(diagnose(average).initial_share == 0);
}

TEST_CASE("a small batch is allowed the noise of its size") {
  Layer bn(1);
  bn.num_batches_tracked(1).set_running_var({1.1F});
  // A mean of 1 and a standard deviation of 3.
  const auto drifted = [&](batchnorm::detail::Index n, double mean, double var) {
    return !diagnose(bn, Moments(n, {mean}, {var}, Variance::unbiased)).drifted.empty();
  };
  CHECK_FALSE(drifted(9, 1, 1));  // by chance 1/3
  CHECK(drifted(900, 1, 1));
  CHECK_FALSE(drifted(8, 0, 9));  // by chance a fourth
  CHECK(drifted(800, 0, 9));
  CHECK_FALSE(drifted(8, 0, 0.1));
  CHECK(drifted(800, 0, 0.1));
}

TEST_CASE("moments take the place of the last batch, and the limits move") {
  const auto bn = settled_layer(data(100, 2));
  const Moments other(1000, {0.2, 10.0}, {1.0 / 3, 4.0 / 3});
  CHECK(diagnose(bn, other).healthy());
  CHECK(channels_of(diagnose(bn, other, DiagnosisLimits().mean_shift(0.1)).drifted) == Channels{0});
  const Moments wider(1000, {0, 10}, {1, 1});
  CHECK(diagnose(bn, wider).healthy());
  CHECK(channels_of(diagnose(bn, wider, DiagnosisLimits().std_ratio(1.5)).drifted) == Channels{0});
  CHECK_THROWS_AS(diagnose(bn, Moments(3)), std::invalid_argument);
  CHECK_THROWS_AS(DiagnosisLimits().mean_shift(-1), std::invalid_argument);
  CHECK_THROWS_AS(DiagnosisLimits().std_ratio(0.5), std::invalid_argument);
  CHECK_THROWS_AS(DiagnosisLimits().dead_weight(std::nan("")), std::invalid_argument);
}

TEST_CASE("channels whose weight is near 0 are named as dead") {
  auto bn = settled_layer(data(100, 4));
  bn.set_weight({1, 0, -5e-4F, -1});
  const Diagnosis found = diagnose(bn);
  CHECK(found.dead == Channels{1, 2});
  CHECK(says(found, "The weight of channels 1, 2 is within 0.001 of 0: the output is the bias, whatever comes in."));
  CHECK(diagnose(bn, DiagnosisLimits().dead_weight(0)).dead == Channels{1});
  Layer unscaled(BatchNormOptions(4).scale(false));
  CHECK(diagnose(unscaled).dead.empty());
}

TEST_CASE("running statistics that no batch has entered are told of") {
  Layer bn(3);
  CHECK(diagnose(bn).initial);
  CHECK(says(diagnose(bn), "The running statistics are still the initial ones"));
  bn.set_running_mean({1, 2, 3});  // from a file that has no count
  CHECK_FALSE(diagnose(bn).initial);
  CHECK(diagnose(bn).healthy());
}

TEST_CASE("a running variance that never moved is told of") {
  const Eigen::MatrixXf x = data(100, 3);
  Layer stuck(BatchNormOptions(3).momentum(0));
  stuck.forward(x);
  CHECK(diagnose(stuck).unmoved == Channels{0, 1, 2});
  CHECK(says(diagnose(stuck), "The running variance of channels 0, 1, 2 is exactly the initial 1 after 1 batch"));
  auto bn = settled_layer(x);
  bn.running_var()(2) = 1;
  CHECK(diagnose(bn).unmoved == Channels{2});
  CHECK(says(diagnose(bn), "The running variance of channel 2 is exactly the initial 1 after 51 batches"));
}

TEST_CASE("numbers that are not finite and negative variances are named, and no drift is made of them") {
  auto bn = settled_layer(data(100, 4));
  bn.weight()(0) = std::numeric_limits<float>::infinity();
  bn.bias()(1) = std::nanf("");
  bn.running_mean()(2) = std::nanf("");
  bn.running_var()(3) = -0.5F;
  const Diagnosis found = diagnose(bn);
  REQUIRE(found.invalid.size() == 4);
  CHECK(found.drifted.empty());
  CHECK(says(found, "The weight of channel 0 is inf."));
  CHECK(says(found, "The bias of channel 1 is nan."));
  CHECK(says(found, "The running_mean of channel 2 is nan."));
  CHECK(says(found, "The running_var of channel 3 is -0.5."));

  Eigen::MatrixXf x = data(100, 2);
  auto fed = settled_layer(x);
  x(3, 1) = std::nanf("");
  fed.forward(x);
  CHECK(says(diagnose(fed), "The running_var of channel 1 is nan."));
  CHECK(says(diagnose(fed), "The mean of the data of channel 1 is nan."));
}

TEST_CASE("of many channels the text names some and counts the rest") {
  Layer bn(20);
  bn.set_running_stats(Moments(9, std::vector<int>(20, 1), std::vector<int>(20, 2)));
  bn.weight().setZero();
  const Diagnosis found = diagnose(bn, Moments(1000, std::vector<int>(20, 9), std::vector<int>(20, 2)));
  CHECK(found.drifted.size() == 20);
  CHECK(says(found, "Channel 7 has drifted"));
  CHECK_FALSE(says(found, "Channel 8 has drifted"));
  CHECK(says(found, "12 more channels have drifted."));
  CHECK(says(found, "channels 0, 1, 2, 3, 4, 5, 6, 7 and 12 more"));
}

TEST_CASE("what was not compared is said not to have been") {
  const Eigen::MatrixXf x = data(100, 2);
  Layer fresh(2);
  fresh.set_running_stats(Moments(100, {0, 10}, {1, 2}));
  CHECK(diagnose(fresh).values == 0);
  CHECK(says(diagnose(fresh), "were not compared with data"));
  auto bn = settled_layer(x);
  bn.eval();
  bn.forward(x);  // by the running statistics
  CHECK(diagnose(bn).values == 0);
  CHECK(diagnose(bn, Moments(2)).values == 0);
  Layer untracked(BatchNormOptions(2).track_running_stats(false));
  CHECK(diagnose(untracked).healthy());
  CHECK(says(diagnose(untracked), "The layer has no running statistics: inference takes those of its batch."));
  CHECK_THROWS_AS(diagnose(Layer()), std::logic_error);
}
