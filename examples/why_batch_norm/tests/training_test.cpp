// Whole training runs.

#include "../training.hpp"

#include <limits>

#include "../../../tests/catch.hpp"
#include "../draw_digits.hpp"
#include "../load_dataset.hpp"

using namespace why_batch_norm;

namespace {

Dataset digits() { return limited(draw_dataset(1200, 300, 1), {1000, 100, 300}); }

nlohmann::json train_quietly(const Dataset& data, const Settings& settings) {
  return train(data, settings, [](Index) {});
}

Settings small_settings() {
  Settings settings;
  settings.hidden = {32, 32};
  settings.batch_size = 32;
  settings.steps = 100;
  return settings;
}

}  // namespace

TEST_CASE("drawn digits are learned, with and without batch normalization", "[training]") {
  for (const bool batch_norm : {true, false}) {
    Settings settings = small_settings();
    settings.batch_norm = batch_norm;
    settings.evaluate_at = {0, 50};
    const nlohmann::json result = train_quietly(digits(), settings);
    CHECK(result["diverged"] == false);
    REQUIRE(result["curve"].size() == 3);
    CHECK(result["curve"][0]["loss"].is_null());
    CHECK(result["curve"][2]["step"] == 100);
    CHECK(result["curve"][2]["loss"].get<double>() < result["curve"][1]["loss"].get<double>());
    CHECK(result["curve"][2]["test"].get<double>() > 0.6);  // guessing gives 0.1
  }
}

TEST_CASE("the same settings give the same result, and another seed another", "[training]") {
  Settings settings = small_settings();
  settings.dropout = 0.3;
  const nlohmann::json result = train_quietly(digits(), settings);
  CHECK(train_quietly(digits(), settings) == result);
  settings.seed = 2;
  CHECK(train_quietly(digits(), settings) != result);
}

TEST_CASE("a run whose loss is not finite stops and says so", "[training]") {
  Dataset data = digits();
  data.train.images.setConstant(std::numeric_limits<float>::infinity());
  const nlohmann::json result = train_quietly(data, small_settings());
  CHECK(result["diverged"] == true);
  CHECK(result["curve"].back()["step"] == 1);
}

TEST_CASE("a batch larger than the training images is an error", "[training]") {
  Settings settings = small_settings();
  settings.train_images = 31;
  CHECK_THROWS_WITH(train_quietly(digits(), settings),
                    "settings: expected a batch_size of at most 31, as many as there are training images, got 32");
}

TEST_CASE("what the settings ask for is measured where they ask for it", "[training]") {
  Settings settings = small_settings();
  settings.percentiles_at = {0, 100};
  settings.gradient_norms_at = {0};
  settings.training_accuracy = true;
  settings.parameters = true;
  settings.inference = true;
  const nlohmann::json result = train_quietly(digits(), settings);
  CHECK(result["percentiles"].size() == 2);
  REQUIRE(result["gradient_norms"].size() == 1);
  CHECK(result["gradient_norms"][0]["norms"].size() == 3);  // two hidden layers and the output
  CHECK(result["curve"].back().contains("training"));
  CHECK(result["parameters"]["gamma"].size() == 2);
  CHECK(result.contains("inference"));
}
