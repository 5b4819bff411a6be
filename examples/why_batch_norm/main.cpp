// Trains small networks, with and without batch normalization, as it is told by lines of JSON, and answers in lines of
// JSON. why_batch_norm.py tells it what to train for each claim and draws what came of it; a single run is
//
//     echo '{"batch_norm": true, "learning_rate": 0.3}' | why_batch_norm
//
// To read it from the top: network.hpp (where batch normalization comes in), training.hpp (one run), measure.hpp (what
// is measured), settings.hpp (what tells the runs apart); then the parts, linear.hpp, activation.hpp, dropout.hpp,
// softmax_cross_entropy.hpp and sgd.hpp. The images come from load_dataset.hpp or draw_digits.hpp.

#include <CLI/CLI.hpp>
#include <chrono>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "bad_input.hpp"
#include "draw_digits.hpp"
#include "load_dataset.hpp"
#include "settings.hpp"
#include "training.hpp"

namespace {

using namespace why_batch_norm;
using nlohmann::json;

// A line of its own for each message, and at once: the one who reads waits for it.
void answer(const json& message) { std::cout << message.dump() << std::endl; }

// The images at every size that a run has asked for.
class Sizes {
 public:
  explicit Sizes(Dataset data) { sizes_.emplace(0, std::move(data)); }

  const Dataset& whole() const { return sizes_.at(0); }
  const Dataset& at(Index side) {
    const auto found = sizes_.find(side);
    return found != sizes_.end() ? found->second : sizes_.emplace(side, shrunk(whole(), side)).first->second;
  }

 private:
  std::map<Index, Dataset> sizes_;
};

void run(Sizes& data, json job) {
  const json id = job.contains("id") ? job["id"] : json();
  job.erase("id");
  const Settings settings = parse_settings(job);
  const auto start = std::chrono::steady_clock::now();
  auto reported = start;
  json result = train(data.at(settings.side), settings, [&](Index step) {
    const auto now = std::chrono::steady_clock::now();
    if (now - reported < std::chrono::milliseconds(200)) return;
    reported = now;
    answer({{"id", id}, {"step", step}});
  });
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  result["seconds"] = elapsed.count();
  answer({{"id", id}, {"result", result}});
}

void run_all(Sizes& data, std::istream& jobs, const std::string& name) {
  std::string line;
  for (int number = 1; std::getline(jobs, line); ++number) {
    if (line.empty()) continue;
    try {
      json job = json::parse(line);
      if (!job.is_object()) throw BadInput("expected an object, got " + job.dump());
      run(data, std::move(job));
    } catch (const json::parse_error& error) {
      throw BadInput(name + ":" + std::to_string(number) + ": " + error.what());
    } catch (const BadInput& error) {
      throw BadInput(name + ":" + std::to_string(number) + ": " + error.what());
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains small networks, with and without batch normalization: one run for each line of JSON, an object with some "
      "of the settings below and perhaps an id. The answers are lines of JSON: the data, the progress of each run and "
      "its result.");
  app.option_defaults()->always_capture_default();
  std::string folder;
  std::string jobs = "-";
  DatasetLimits limits;
  app.add_option("--data", folder,
                 "folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
                 "t10k-labels-idx1-ubyte, each with .gz or without (default: digits that the program draws)");
  app.add_option("--jobs", jobs, "file with the runs, - for the standard input");
  app.add_option("--train-images", limits.train, "how many images to train on at most");
  app.add_option("--validation-images", limits.validation, "how many training images are held out at most");
  app.add_option("--test-images", limits.test, "how many images to test on at most");
  app.footer("The settings of a run and their defaults:\n" + json(Settings()).dump(1));
  CLI11_PARSE(app, argc, argv);

  try {
    constexpr std::size_t drawn_train = 8000;
    constexpr std::size_t drawn_test = 2000;
    Sizes sizes(limited(folder.empty() ? draw_dataset(drawn_train, drawn_test, 1) : load_dataset(folder), limits));
    const Dataset& data = sizes.whole();
    answer({{"data",
             {{"name", data.name},
              {"height", data.height},
              {"width", data.width},
              {"classes", data.classes},
              {"train", data.train.size()},
              {"validation", data.validation.size()},
              {"test", data.test.size()}}}});
    if (jobs == "-") {
      run_all(sizes, std::cin, "standard input");
    } else {
      std::ifstream file(jobs);
      if (!file) throw BadInput(jobs + ": cannot open this file");
      run_all(sizes, file, jobs);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "why_batch_norm: " << error.what() << "\n";
    return 1;
  }
}
