// The layer against the oracle: every rank, layout, channel axis and option, in training, inference and in between.
// The tolerances are the library's promise, see promised() in duel.hpp.

#include <limits>

#include "catch.hpp"
#include "duel.hpp"

using batchnorm::BatchNormOptions;
using batchnorm::SingleValue;
using batchnorm::Variance;

namespace {

// Training twice with gradients that accumulate, then inference, each through all call shapes in turn.
template <typename T>
void train_and_infer(Duel<T>& duel, const oracle::Geometry& geometry, Random& random) {
  int turn = 0;
  for (const bool training : {true, true, false}) {
    const auto shape = call_shapes[turn++ % 4];
    const auto x = random.tensor<T>(geometry), dy = random.vector<T>(x.size(), -1, 1);
    duel.train(training);
    duel.forward(x, shape);
    duel.backward(x, dy, shape);
    duel.infer(x, shape);
  }
}

template <typename T>
std::string duel_over(const oracle::Geometry& geometry, const BatchNormOptions& options, std::uint64_t seed,
                      const Tolerances& tolerances = promised<T>()) {
  Random random(seed);
  Duel<T> duel(geometry, options, tolerances);
  duel.randomize(random);
  train_and_infer(duel, geometry, random);
  return duel.complaint();
}

}  // namespace

TEMPLATE_TEST_CASE("forward, infer and backward agree with the oracle for every rank, layout and channel axis", "",
                   float, double) {
  for (const auto& geometry : all_geometries()) {
    for (const int axis : {geometry.axis, geometry.axis - geometry.rank()}) {  // -1 is the last axis
      CHECK(duel_over<TestType>(geometry, BatchNormOptions(geometry.channels()).channel_axis(axis), 1) == "");
    }
  }
}

TEMPLATE_TEST_CASE("all four call shapes of forward, infer and backward give the same result", "", float, double) {
  for (const auto& geometry : all_geometries()) {
    const auto options = BatchNormOptions(geometry.channels()).channel_axis(geometry.axis);
    Random random(2);
    const auto x = random.tensor<TestType>(geometry), dy = random.vector<TestType>(x.size(), -1, 1);
    for (const auto shape : call_shapes) {
      Duel<TestType> duel(geometry, options);
      duel.forward(x, shape);
      duel.backward(x, dy, shape);
      duel.infer(x, shape);
      CHECK(duel.complaint() == "");
    }
  }
}

TEMPLATE_TEST_CASE("every combination of options agrees with the oracle", "", float, double) {
  for (const bool row_major : {true, false}) {
    const oracle::Geometry geometry{{3, 4, 5}, row_major, 1};
    for (const std::optional<double> momentum :
         {std::optional<double>(0.1), std::optional<double>(0.0), std::optional<double>(0.75),
          std::optional<double>(1.0), std::optional<double>()}) {
      for (const bool scale : {true, false}) {
        for (const bool shift : {true, false}) {
          for (const bool track : {true, false}) {
            for (const auto variance : {Variance::unbiased, Variance::biased}) {
              for (const double epsilon : {1e-5, 0.25, 0.0}) {
                const auto options = BatchNormOptions(4)
                                         .momentum(momentum)
                                         .scale(scale)
                                         .shift(shift)
                                         .track_running_stats(track)
                                         .running_variance(variance)
                                         .epsilon(epsilon);
                CHECK(duel_over<TestType>(geometry, options, 3) == "");
              }
            }
          }
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("the presets agree with the oracle", "", float, double) {
  const oracle::Geometry first{{4, 3, 2, 5}, true, 1}, last{{4, 2, 5, 3}, true, 3};
  CHECK(duel_over<TestType>(first, BatchNormOptions::pytorch(3), 4) == "");
  CHECK(duel_over<TestType>(first, BatchNormOptions::onnx(3), 4) == "");
  CHECK(duel_over<TestType>(last, BatchNormOptions::keras(3), 4) == "");
}

TEMPLATE_TEST_CASE("any order of calls, modes, batch sizes and parameter changes agrees with the oracle", "", float,
                   double) {
  for (const std::optional<double> momentum : {std::optional<double>(0.3), std::optional<double>()}) {
    for (const bool track : {true, false}) {
      for (const bool row_major : {true, false}) {
        const oracle::Geometry geometry{{4, 3, 5}, row_major, 1};
        Random random(5);
        Duel<TestType> duel(geometry, BatchNormOptions(3).momentum(momentum).track_running_stats(track));
        auto batch = geometry;
        std::vector<TestType> x;
        for (int step = 0; step < 60; ++step) {
          // Whatever happens between a forward and its backward does not count, but for the weight.
          batch.extents[0] = random.integer(1, 6);
          x = random.tensor<TestType>(batch);
          duel.train(random.integer(0, 2) != 0);
          duel.forward(batch, x, call_shapes[random.integer(0, 3)]);
          if (random.integer(0, 1)) duel.train(random.integer(0, 1) != 0);
          if (random.integer(0, 3) == 0) duel.randomize(random);
          if (random.integer(0, 3) == 0) duel.infer(batch, random.tensor<TestType>(batch));
          if (random.integer(0, 3) == 0) duel.zero_grad();
          for (auto times = random.integer(0, 2); times > 0; --times) {
            duel.backward(batch, x, random.vector<TestType>(x.size(), -1, 1), call_shapes[random.integer(0, 3)]);
          }
        }
        CHECK(duel.complaint() == "");
      }
    }
  }
}

TEMPLATE_TEST_CASE("every length of a channel's rows agrees with the oracle", "", float, double) {
  for (std::int64_t length = 1; length <= 70; ++length) {
    CHECK(duel_over<TestType>({{2, 3, length}, true, 1}, 3, 6) == "");   // few rows
    CHECK(duel_over<TestType>({{11, 3, length}, true, 1}, 3, 6) == "");  // several
    CHECK(duel_over<TestType>({{length, 3, 2}, false, 1}, 3, 6) == "");
  }
  // Longer ones are summed in parts of a power of two.
  for (const std::int64_t part : {128, 256, 512, 1024}) {
    for (std::int64_t length = part - 2; length <= part + 2; ++length) {
      CHECK(duel_over<TestType>({{2, 3, length}, true, 1}, 3, 6) == "");
    }
  }
}

TEMPLATE_TEST_CASE("every number of channels agrees with the oracle", "", float, double) {
  for (std::int64_t channels = 1; channels <= 70; ++channels) {
    CHECK(duel_over<TestType>({{5, channels}, true, 1}, channels, 7) == "");
    CHECK(duel_over<TestType>({{5, channels}, false, 1}, channels, 7) == "");
    CHECK(duel_over<TestType>({{2, channels, 3}, true, 1}, channels, 7) == "");
    CHECK(duel_over<TestType>({{9, channels, 17}, true, 1}, channels, 7) == "");
  }
}

TEMPLATE_TEST_CASE("every batch size agrees with the oracle", "", float, double) {
  for (std::int64_t batch = 1; batch <= 70; ++batch) {
    CHECK(duel_over<TestType>({{batch, 3, 2}, true, 1}, 3, 8) == "");
    CHECK(duel_over<TestType>({{batch, 3, 19}, true, 1}, 3, 8) == "");
    CHECK(duel_over<TestType>({{batch, 2, 3}, true, 2}, BatchNormOptions(3).channel_axis(-1), 8) == "");
  }
}

TEMPLATE_TEST_CASE("random shapes, of few and many samples, channels and values in a row, agree with the oracle", "",
                   float, double) {
  Random shapes(17);
  // A single channel's sum of thousands of values of either sign may cancel to a hundredth of what was added up.
  auto tolerances = promised<TestType>();
  if (std::is_same_v<TestType, double>) tolerances.weight_grad = tolerances.bias_grad = 1e-11L;
  // Each extent from 1 to a thousand, small ones as likely as large.
  const auto extent = [&shapes] { return static_cast<std::int64_t>(std::exp2(shapes.uniform(0, 10))); };
  for (int tries = 0; tries < 150;) {
    const oracle::Geometry geometry{{extent(), extent(), extent()}, shapes.integer(0, 1) == 1, 1};
    const auto values = geometry.size() / geometry.channels();
    if (geometry.size() > 30000 || values == 1) continue;
    ++tries;
    CHECK(duel_over<TestType>(geometry, geometry.channels(), static_cast<std::uint64_t>(tries), tolerances) == "");
  }
}

TEMPLATE_TEST_CASE("tensors larger than a cache agree with the oracle", "[large]", float, double) {
  CHECK(duel_over<TestType>({{2, 3, 50001}, true, 1}, 3, 9) == "");    // long rows
  CHECK(duel_over<TestType>({{300, 3, 301}, true, 1}, 3, 9) == "");    // rows that share a slice
  CHECK(duel_over<TestType>({{5003, 2, 17}, true, 1}, 2, 9) == "");    // many short rows
  CHECK(duel_over<TestType>({{4001, 37}, true, 1}, 37, 9) == "");      // channels last
  CHECK(duel_over<TestType>({{3, 9001, 7}, true, 1}, 9001, 9) == "");  // thousands of channels
  CHECK(duel_over<TestType>({{60007, 3}, false, 1}, 3, 9) == "");      // each channel in one piece
}

TEMPLATE_TEST_CASE("tensors so large that results go past the cache agree with the oracle", "[large]", float, double) {
  // More than 8 MiB of float.
  for (const auto& geometry : {oracle::Geometry{{7, 3, 100003}, true, 1}, oracle::Geometry{{60001, 37}, true, 1},
                               oracle::Geometry{{9001, 12, 20}, true, 1}}) {
    Random random(16);
    Duel<TestType> duel(geometry, geometry.channels());
    duel.randomize(random);
    const auto x = random.tensor<TestType>(geometry), dy = random.vector<TestType>(x.size(), -1, 1);
    duel.forward(x, CallShape::into, Place::over_x);
    duel.backward(x, dy, CallShape::into, Place::over_dy);
    duel.forward(x);
    duel.backward(x, dy);
    CHECK(duel.complaint() == "");
  }
}

TEMPLATE_TEST_CASE("work in place agrees with the oracle", "", float, double) {
  for (const auto& geometry : all_geometries()) {
    for (const bool training : {true, false}) {
      for (const auto shape : {CallShape::into, CallShape::device_into}) {
        const auto options = BatchNormOptions(geometry.channels()).channel_axis(geometry.axis);
        Random random(10);
        Duel<TestType> duel(geometry, options);
        duel.randomize(random);
        duel.train(training);
        const auto x = random.tensor<TestType>(geometry), dy = random.vector<TestType>(x.size(), -1, 1);
        duel.forward(x, shape, Place::over_x);
        duel.backward(x, dy, shape, Place::over_dy);  // from a copy of x, which is still whole
        duel.forward(x, shape);
        duel.backward(x, dy, shape, Place::over_x);
        CHECK(duel.complaint() == "");
      }
    }
  }
}

TEMPLATE_TEST_CASE("one value per channel follows its policy", "", float, double) {
  for (const auto policy : {SingleValue::skip_update, SingleValue::use_running, SingleValue::allow}) {
    for (const bool row_major : {true, false}) {
      for (const auto variance : {Variance::unbiased, Variance::biased}) {
        for (const std::int64_t channels : {4, 1}) {  // one value in all, too
          const oracle::Geometry single{{1, channels, 1}, row_major, 1}, several{{2, channels, 3}, row_major, 1};
          Random random(11);
          Duel<TestType> duel(single, BatchNormOptions(channels).single_value(policy).running_variance(variance));
          duel.randomize(random);
          for (const auto& geometry : {single, several, single}) {
            const auto x = random.tensor<TestType>(geometry), dy = random.vector<TestType>(x.size(), -1, 1);
            duel.forward(geometry, x);
            duel.backward(geometry, x, dy);
          }
          CHECK(duel.complaint() == "");
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("an empty batch changes nothing, and is not counted", "", float, double) {
  for (const std::optional<double> momentum : {std::optional<double>(0.1), std::optional<double>()}) {
    for (const bool row_major : {true, false}) {
      const oracle::Geometry empty{{0, 3, 5}, row_major, 1}, full{{2, 3, 5}, row_major, 1};
      Random random(12);
      Duel<TestType> duel(empty, BatchNormOptions(3).momentum(momentum));
      duel.randomize(random);
      for (const auto& geometry : {full, empty, full}) {
        for (const auto shape : call_shapes) {
          const auto x = random.tensor<TestType>(geometry), dy = random.vector<TestType>(x.size(), -1, 1);
          duel.forward(geometry, x, shape);
          duel.backward(geometry, x, dy, shape);
          duel.infer(geometry, x, shape);
        }
      }
      CHECK(duel.complaint() == "");
      CHECK(duel.layer->state().batches == 8);
    }
  }
}

TEMPLATE_TEST_CASE("an empty batch of width zero is an empty batch too", "", float, double) {
  const oracle::Geometry empty{{2, 3, 0}, true, 1};
  Duel<TestType> duel(empty, 3);
  duel.forward({});
  duel.backward({}, {});
  duel.train(false);
  duel.forward({});
  duel.backward({}, {});
  CHECK(duel.complaint() == "");
}

TEMPLATE_TEST_CASE("a constant channel normalizes to its bias exactly, whatever epsilon is", "", float, double) {
  for (const double epsilon : {0.0, 1e-5}) {
    for (const bool channels_last : {false, true}) {
      const oracle::Geometry geometry{channels_last ? oracle::Extents{3, 67, 7} : oracle::Extents{3, 7, 67}, true,
                                      channels_last ? 2 : 1};
      // The last ones are next to float's denormals, or among them.
      const std::vector<TestType> constants = {TestType(0.1),   TestType(-1e6) / 3,    TestType(1e-20), TestType(9),
                                               TestType(4e-38), TestType(1.23457e-38), TestType(3e-45)};
      std::vector<TestType> x(static_cast<std::size_t>(geometry.size())), y(x.size());
      oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) { x[i] = constants[c]; });
      const auto layer =
          AnyLayer<TestType>::make(geometry, BatchNormOptions(7).epsilon(epsilon).channel_axis(geometry.axis));
      auto state = layer->state();
      state.bias = {TestType(0.3), TestType(-7), TestType(0), TestType(1e-3), TestType(0), TestType(5), TestType(-1)};
      state.weight = {TestType(2), TestType(-3), TestType(1), TestType(100), TestType(1), TestType(1), TestType(2)};
      layer->set_parameters(state);
      layer->forward(geometry.extents, x.data(), y.data());
      std::size_t other = 0;
      oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) { other += y[i] != state.bias[c]; });
      CHECK(other == 0);
      // x-hat is 0, and so is all of dx but dy's deviation from its mean, where an epsilon keeps 1 / std finite.
      std::vector<TestType> dy(x.size()), dx(x.size());
      for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = i % 2 == 0 ? TestType(1) : TestType(-1);
      layer->backward(geometry.extents, x.data(), dy.data(), dx.data());
      std::size_t wrong = 0;
      for (const TestType d : dx) wrong += epsilon == 0 ? d != 0 : !std::isfinite(d);
      CHECK(wrong == 0);
    }
  }
}

TEMPLATE_TEST_CASE("a mean far larger than the deviation costs no digits", "", float, double) {
  for (const double deviation : {1.0, 0.01}) {
    for (const double mean : {1e4, 1e6, -1e6}) {
      for (const auto& geometry : {oracle::Geometry{{3, 2, 401}, true, 1}, oracle::Geometry{{3, 401, 2}, true, 2},
                                   oracle::Geometry{{3, 1500, 17}, true, 1}, oracle::Geometry{{21, 1500}, true, 1}}) {
        Random random(13);
        const auto x = random.vector<TestType>(static_cast<std::size_t>(geometry.size()), mean - deviation * 1.7,
                                               mean + deviation * 1.7);
        const auto options = BatchNormOptions(geometry.channels()).channel_axis(geometry.axis).momentum(1.0);
        Duel<TestType> duel(geometry, options);
        duel.forward(x);
        duel.backward(x, random.vector<TestType>(x.size(), -1, 1));
        duel.train(false);
        duel.forward(x);
        duel.backward(x, random.vector<TestType>(x.size(), -1, 1));
        CHECK(duel.complaint() == "");
      }
    }
  }
}

TEMPLATE_TEST_CASE("a first value far from all others of its channel costs no digits", "", float, double) {
  for (const auto& geometry : {oracle::Geometry{{20000, 5}, true, 1}, oracle::Geometry{{2, 3, 20001}, true, 1},
                               oracle::Geometry{{20000, 3}, false, 1}}) {
    Random random(18);
    auto x = random.tensor<TestType>(geometry);
    // In every other channel, so that one channel's answer is not another's.
    std::vector<bool> seen(static_cast<std::size_t>(geometry.channels()), false);
    oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) {
      if (c % 2 == 1 && !seen[c]) x[i] = TestType(1e6) + static_cast<TestType>(c), seen[c] = true;
    });
    Duel<TestType> duel(geometry, geometry.channels());
    duel.forward(x);
    duel.backward(x, random.vector<TestType>(x.size(), -1, 1));
    CHECK(duel.complaint() == "");
  }
}

TEST_CASE("values whose squares overflow or vanish in float are normalized all the same") {
  for (const float magnitude : {1e30F, 3e19F, 1e15F, 1e-20F, 1e-30F}) {
    for (const bool channels_last : {false, true}) {
      const oracle::Geometry geometry{channels_last ? oracle::Extents{3, 41, 2} : oracle::Extents{3, 2, 41}, true,
                                      channels_last ? 2 : 1};
      Random random(14);
      const auto x = random.vector<float>(static_cast<std::size_t>(geometry.size()), -magnitude, magnitude);
      // No running statistics: a variance of 1e60 has no float.
      Duel<float> duel(geometry, BatchNormOptions(2).channel_axis(geometry.axis).epsilon(0).track_running_stats(false));
      duel.forward(x);
      CHECK(duel.complaint() == "");
    }
  }
}

TEMPLATE_TEST_CASE("a NaN or infinity spoils its channel and no other", "", float, double) {
  for (const auto bad : {std::numeric_limits<TestType>::quiet_NaN(), std::numeric_limits<TestType>::infinity()}) {
    // By rows and by columns, and so many channels that they are cut into blocks.
    for (const auto& geometry : {oracle::Geometry{{4, 9, 9}, true, 1}, oracle::Geometry{{4, 9, 9}, true, 2},
                                 oracle::Geometry{{3, 3000, 2}, true, 1}, oracle::Geometry{{3, 3000, 20}, true, 1}}) {
      const auto options = BatchNormOptions(geometry.channels()).channel_axis(geometry.axis);
      Random random(15);
      const auto good = random.tensor<TestType>(geometry), dy = random.vector<TestType>(good.size(), -1, 1);
      auto spoilt = good;
      bool done = false;
      oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) {
        if (c == 4 && !done) spoilt[i] = bad, done = true;
      });
      const auto layer = AnyLayer<TestType>::make(geometry, options);
      const auto other = AnyLayer<TestType>::make(geometry, options);
      std::vector<TestType> y(good.size()), y_spoilt(y), dx(y), dx_spoilt(y);
      layer->forward(geometry.extents, good.data(), y.data());
      other->forward(geometry.extents, spoilt.data(), y_spoilt.data());
      layer->backward(geometry.extents, good.data(), dy.data(), dx.data());
      other->backward(geometry.extents, spoilt.data(), dy.data(), dx_spoilt.data());
      std::size_t wrong = 0;
      oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) {
        wrong += c == 4 ? !std::isnan(y_spoilt[i]) : y_spoilt[i] != y[i] || dx_spoilt[i] != dx[i];
      });
      CHECK(wrong == 0);
      const auto state = layer->state(), state_spoilt = other->state();
      CHECK_FALSE(std::isfinite(state_spoilt.running_mean[4]));
      CHECK(std::isnan(state_spoilt.running_var[4]));
      for (std::size_t c = 0; c < state.weight.size(); ++c) {
        wrong += c != 4 && (state.running_mean[c] != state_spoilt.running_mean[c] ||
                            state.running_var[c] != state_spoilt.running_var[c] ||
                            state.weight_grad[c] != state_spoilt.weight_grad[c] ||
                            state.bias_grad[c] != state_spoilt.bias_grad[c]);
      }
      CHECK(wrong == 0);
    }
  }
}

TEMPLATE_TEST_CASE("a negative running variance gives NaN in its channel and no other", "", float, double) {
  const oracle::Geometry geometry{{2, 3, 5}, true, 1};
  const auto layer = AnyLayer<TestType>::make(geometry, 3);
  auto state = layer->state();
  state.running_var = {TestType(1), TestType(-1), TestType(1)};
  layer->set_parameters(state);
  layer->train(false);
  std::vector<TestType> x(30, TestType(1)), y(30);
  layer->forward(geometry.extents, x.data(), y.data());
  std::size_t wrong = 0;
  oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) { wrong += std::isnan(y[i]) != (c == 1); });
  CHECK(wrong == 0);
}
