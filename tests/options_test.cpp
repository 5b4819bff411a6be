// BatchNormOptions: defaults, presets, and the check in every setter.

#include <batchnorm/options.hpp>

#include <cmath>
#include <limits>

#include "catch.hpp"

using batchnorm::BatchNormOptions;
using batchnorm::SingleValue;
using batchnorm::Variance;
using Catch::Matchers::Message;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("the defaults are PyTorch's, and so is the preset") {
  for (const auto& options : {BatchNormOptions(64), BatchNormOptions::pytorch(64)}) {
    CHECK(options.num_features() == 64);
    CHECK(options.epsilon() == 1e-5);
    CHECK(options.momentum() == 0.1);
    CHECK(options.scale());
    CHECK(options.shift());
    CHECK(options.affine());
    CHECK(options.track_running_stats());
    CHECK(options.running_variance() == Variance::unbiased);
    CHECK(options.channel_axis() == 1);
    CHECK(options.single_value() == SingleValue::error);
  }
}

TEST_CASE("the preset keras has Keras' conventions") {
  const auto options = BatchNormOptions::keras(7);
  CHECK(options.num_features() == 7);
  CHECK(options.epsilon() == 1e-3);
  CHECK(std::abs(options.momentum().value() - 0.01) < 1e-15);  // 1 - 0.99 rounds
  CHECK(options.affine());
  CHECK(options.track_running_stats());
  CHECK(options.running_variance() == Variance::biased);
  CHECK(options.channel_axis() == -1);
  CHECK(options.single_value() == SingleValue::allow);
}

TEST_CASE("the preset onnx has ONNX' conventions") {
  const auto options = BatchNormOptions::onnx(7);
  CHECK(options.num_features() == 7);
  CHECK(options.epsilon() == 1e-5);
  CHECK(std::abs(options.momentum().value() - 0.1) < 1e-15);  // 1 - 0.9 rounds
  CHECK(options.affine());
  CHECK(options.track_running_stats());
  CHECK(options.running_variance() == Variance::biased);
  CHECK(options.channel_axis() == 1);
  CHECK(options.single_value() == SingleValue::allow);
}

TEST_CASE("setters chain, and each getter gives what its setter was given") {
  const BatchNormOptions options = BatchNormOptions(3)
                                       .epsilon(0.5)
                                       .momentum(0.25)
                                       .scale(false)
                                       .shift(true)
                                       .track_running_stats(false)
                                       .running_variance(Variance::biased)
                                       .channel_axis(-2)
                                       .single_value(SingleValue::use_running);
  CHECK(options.num_features() == 3);
  CHECK(options.epsilon() == 0.5);
  CHECK(options.momentum() == 0.25);
  CHECK_FALSE(options.scale());
  CHECK(options.shift());
  CHECK_FALSE(options.track_running_stats());
  CHECK(options.running_variance() == Variance::biased);
  CHECK(options.channel_axis() == -2);
  CHECK(options.single_value() == SingleValue::use_running);
}

TEST_CASE("a momentum of nullopt asks for the cumulative average") {
  CHECK(BatchNormOptions(3).momentum(std::nullopt).momentum() == std::nullopt);
}

TEST_CASE("decay is one less momentum") {
  CHECK(BatchNormOptions(3).decay(0.75).momentum() == 0.25);
  CHECK(BatchNormOptions(3).decay(0).momentum() == 1.0);
  CHECK(BatchNormOptions(3).decay(1).momentum() == 0.0);
}

TEST_CASE("affine sets scale and shift together") {
  const auto off = BatchNormOptions(3).affine(false);
  CHECK_FALSE(off.scale());
  CHECK_FALSE(off.shift());
  CHECK_FALSE(BatchNormOptions(3).scale(false).affine());
  CHECK_FALSE(BatchNormOptions(3).shift(false).affine());
  CHECK(BatchNormOptions(3).affine(false).affine(true).affine());
}

TEST_CASE("the bounds of every range are allowed") {
  CHECK(BatchNormOptions(1).num_features() == 1);
  CHECK(BatchNormOptions(1).epsilon(0).epsilon() == 0);
  CHECK(BatchNormOptions(1).momentum(0.0).momentum() == 0.0);
  CHECK(BatchNormOptions(1).momentum(1.0).momentum() == 1.0);
}

TEST_CASE("a number of features below 1 is refused by name") {
  CHECK_THROWS_MATCHES(BatchNormOptions(0), std::invalid_argument,
                       Message("batchnorm: expected num_features of at least 1, got 0"));
  CHECK_THROWS_MATCHES(BatchNormOptions(-3), std::invalid_argument,
                       Message("batchnorm: expected num_features of at least 1, got -3"));
  CHECK_THROWS_AS(BatchNormOptions::pytorch(0), std::invalid_argument);
  CHECK_THROWS_AS(BatchNormOptions::keras(0), std::invalid_argument);
  CHECK_THROWS_AS(BatchNormOptions::onnx(0), std::invalid_argument);
}

TEST_CASE("an epsilon that is negative or not finite is refused, and the options stay as they were") {
  BatchNormOptions options(3);
  CHECK_THROWS_MATCHES(options.epsilon(-1e-5), std::invalid_argument,
                       Message("batchnorm: expected a finite epsilon of at least 0, got -1e-05"));
  CHECK_THROWS_AS(options.epsilon(not_a_number), std::invalid_argument);
  CHECK_THROWS_AS(options.epsilon(infinity), std::invalid_argument);
  CHECK(options.epsilon() == 1e-5);
}

TEST_CASE("a momentum outside of [0, 1] is refused, and the options stay as they were") {
  BatchNormOptions options(3);
  CHECK_THROWS_MATCHES(options.momentum(1.5), std::invalid_argument,
                       Message("batchnorm: expected a momentum in [0, 1], got 1.5"));
  CHECK_THROWS_AS(options.momentum(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(options.momentum(not_a_number), std::invalid_argument);
  CHECK(options.momentum() == 0.1);
}

TEST_CASE("a decay outside of [0, 1] is refused, and the options stay as they were") {
  BatchNormOptions options(3);
  CHECK_THROWS_MATCHES(options.decay(1.5), std::invalid_argument,
                       Message("batchnorm: expected a decay in [0, 1], got 1.5"));
  CHECK_THROWS_AS(options.decay(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(options.decay(not_a_number), std::invalid_argument);
  CHECK(options.momentum() == 0.1);
}
