// The settings of a run, as JSON.

#include "../settings.hpp"

#include <nlohmann/json.hpp>
#include <string>

#include "../../../tests/catch.hpp"

using namespace why_batch_norm;
using nlohmann::json;

namespace {

std::string error(const json& object) {
  try {
    parse_settings(object);
  } catch (const BadInput& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("settings that are not given keep their defaults", "[settings]") {
  const Settings settings = parse_settings({{"learning_rate", 3}, {"hidden", {20, 10}}});
  CHECK(settings.learning_rate == 3.0);
  CHECK(settings.hidden == std::vector<Index>{20, 10});
  CHECK(settings.batch_size == Settings().batch_size);
  CHECK(settings.batch_norm);
}

TEST_CASE("a setting that is unknown, of another type or out of range is an error that names it", "[settings]") {
  CHECK(error({{"learning_rat", 1}}) == R"(settings: expected one of the settings' names, got "learning_rat")");
  CHECK(error({{"batch_norm", 1}}) == "settings: expected a value like true for batch_norm, got 1");
  CHECK(error({{"steps", 1.5}}) == "settings: expected an integer for steps, got 1.5");
  CHECK(error({{"batch_size", 1}}) == "settings: expected batch_size from 2.0 to 1000000.0, got 1");
  CHECK(error({{"activation", "tanh"}}) == R"(settings: expected relu or sigmoid for activation, got "tanh")");
  CHECK(error({{"hidden", {100, 0}}}) == "settings: expected widths from 1 to 10000, got 0");
  CHECK(error({{"hidden", {"wide"}}}).rfind("settings: ", 0) == 0);
  CHECK(error(json::array()) == "settings: expected an object, got []");
}
