// What tells one training run from another, read from JSON.

#ifndef WHY_BATCH_NORM_SETTINGS_HPP
#define WHY_BATCH_NORM_SETTINGS_HPP

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "network.hpp"

namespace why_batch_norm {

struct Settings {
  std::vector<Index> hidden = {100, 100, 100};  // the width of each hidden layer
  std::string activation = "relu";              // or "sigmoid"
  bool batch_norm = true;
  bool gamma = true;              // false: batch normalization without a learnable scale
  bool beta = true;               // false: without a learnable shift
  double running_momentum = 0.1;  // the share of each batch in the running statistics
  double dropout = 0;
  double weight_scale = 1;      // see NetworkShape
  double weight_deviation = 0;  // see NetworkShape

  double learning_rate = 0.1;
  Index batch_size = 60;
  Index steps = 1000;
  Index side = 0;          // images of at least twice as many pixels a side are averaged down to this; 0: as they are
  Index train_images = 0;  // train on the first so many images; 0: on all
  std::uint64_t seed = 1;  // of the weights, the order of the images, and dropout

  std::vector<Index> evaluate_at = {};        // the steps after which the accuracies are measured
  bool training_accuracy = false;             // measured at these steps too, by inference
  std::vector<Index> percentiles_at = {};     // the steps after which the inputs of the last activation are looked at
  std::vector<Index> gradient_norms_at = {};  // the steps after which the gradient of each layer is measured
  bool parameters = false;  // whether the result has gamma and beta, and the identity that they can be
  bool inference = false;   // whether the trained network is compared in inference and training mode
};

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Settings, hidden, activation, batch_norm, gamma, beta, running_momentum,
                                                dropout, weight_scale, weight_deviation, learning_rate, batch_size,
                                                steps, side, train_images, seed, evaluate_at, training_accuracy,
                                                percentiles_at, gradient_norms_at, parameters, inference)

namespace detail {

inline void expect_setting(bool holds, const std::string& expected, const nlohmann::json& got) {
  if (!holds) throw BadInput("settings: expected " + expected + ", got " + got.dump());
}

}  // namespace detail

// Settings that are not in the object keep their defaults. Throws BadInput for a name that is none, a value of another
// type, or one out of range.
inline Settings parse_settings(const nlohmann::json& object) {
  using detail::expect_setting;
  expect_setting(object.is_object(), "an object", object);
  const nlohmann::json known = Settings();
  for (const auto& [name, value] : object.items()) {
    expect_setting(known.contains(name), "one of the settings' names", name);
    expect_setting(known[name].type() == value.type() || (known[name].is_number() && value.is_number()),
                   "a value like " + known[name].dump() + " for " + name, value);
    expect_setting(!known[name].is_number_integer() || value.is_number_integer(), "an integer for " + name, value);
  }
  Settings settings;
  try {
    settings = object.get<Settings>();
  } catch (const nlohmann::json::exception& error) {
    throw BadInput(std::string("settings: ") + error.what());
  }
  const nlohmann::json got = settings;
  const auto expect_range = [&](const char* name, double value, double smallest, double largest) {
    expect_setting(
        value >= smallest && value <= largest,
        std::string(name) + " from " + nlohmann::json(smallest).dump() + " to " + nlohmann::json(largest).dump(),
        got[name]);
  };
  expect_setting(settings.activation == "relu" || settings.activation == "sigmoid", "relu or sigmoid for activation",
                 settings.activation);
  for (const Index width : settings.hidden)
    expect_setting(width >= 1 && width <= 10000, "widths from 1 to 10000", width);
  expect_range("running_momentum", settings.running_momentum, 0, 1);
  expect_range("dropout", settings.dropout, 0, 0.99);
  expect_range("weight_scale", settings.weight_scale, 0, 1e6);
  expect_range("weight_deviation", settings.weight_deviation, 0, 1e6);
  expect_range("learning_rate", settings.learning_rate, 0, 1e6);
  expect_range("batch_size", static_cast<double>(settings.batch_size), 2, 1e6);
  expect_range("steps", static_cast<double>(settings.steps), 0, 1e9);
  expect_range("side", static_cast<double>(settings.side), 0, 1024);
  expect_range("train_images", static_cast<double>(settings.train_images), 0, 1e9);
  return settings;
}

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_SETTINGS_HPP
