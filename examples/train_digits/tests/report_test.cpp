// What the demo shows: progress, table, last line, image.

#include <sstream>
#include <string>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../draw_digits.hpp"
#include "../learning_curves.hpp"
#include "../progress.hpp"
#include "../report.hpp"

using namespace train_digits;

namespace {

RunResult result(const std::vector<double>& accuracies, bool diverged = false) {
  RunResult made;
  for (const double accuracy : accuracies) made.epochs.push_back({0.25, accuracy});
  made.diverged = diverged;
  return made;
}

std::vector<Comparison> comparisons() {
  return {{0.01, 1, result({0.5, 0.95, 0.94}), result({0.3, 0.4, 0.5})},
          {1, 10, result({0.9, 0.96, 0.9794}), result({0.0991}, true)},
          {1, 0.1, result({0.1, 0.1, 0.1}), result({0.9, 0.9, 0.956})}};
}

}  // namespace

TEST_CASE("the last line has the best of the table on either side", "[report]") {
  CHECK(best_line(comparisons()) == "best test accuracy: 97.94 % with batch normalization, 95.60 % without");
}

TEST_CASE("the table has a row for each setting, with failures named", "[report]") {
  CHECK(results_table(comparisons()) ==
        "learning  weight     with batch normalization                 without\n"
        "    rate   scale    accuracy   epochs to 95 %      accuracy   epochs to 95 %\n"
        "    0.01       1     94.00 %                2       50.00 %            never\n"
        "       1      10     97.94 %                2        9.91 %         diverged\n"
        "       1     0.1     10.00 %            never       95.60 %                3\n");
  CHECK(successes_line(comparisons()) ==
        "settings that end at 95 % or more: 1 of 3 with batch normalization, 1 without");
}

TEST_CASE("away from a terminal each run gets a plain line, in the order of the runs", "[report]") {
  std::ostringstream out;
  Progress progress(out, false, 2, 3);
  progress.epoch_done(1, {0.1, 1, false}, {0.25, 0.9});
  CHECK(out.str().empty());
  progress.run_done(1, {0.1, 1, false}, result({0.0991}, true));
  CHECK(out.str().empty());
  progress.run_done(0, {0.1, 1, true}, result({0.5, 0.9, 0.9794}));
  CHECK(out.str() ==
        "run 1 of 2: rate 0.1, scale 1, with batch normalization: loss 0.250, test accuracy 97.94 %\n"
        "run 2 of 2: rate 0.1, scale 1, without batch normalization: diverged in epoch 1\n");
}

TEST_CASE("on a terminal a bar with loss and accuracy stays on one line and is erased at the end", "[report]") {
  std::ostringstream out;
  Progress progress(out, true, 1, 4);
  const RunSettings settings{0.1, 1, true};
  progress.epoch_done(0, settings, {0.25, 0.9});
  CHECK(out.str().rfind("\r[===>        ]  25 %  rate 0.1, scale 1, with: loss 0.250, accuracy 90.0 %", 0) == 0);
  CHECK(out.str().size() == 80);
  progress.epoch_done(0, settings, {1e30, 0.9});
  progress.run_done(0, settings, result({0.9}));
  CHECK(out.str().find('\n') == std::string::npos);
  CHECK(out.str().substr(out.str().size() - 81) == "\r" + std::string(79, ' ') + "\r");
}

TEST_CASE("the image has a panel for each setting and two curves in each", "[report]") {
  const Dataset data = draw_dataset(30, 10, 1);
  TrainingOptions options;
  options.epochs = 3;
  const std::vector<Comparison> one(6, {1, 1, result({0.5, 0.6, 0.7}), result({0.1}, true)});
  const std::string image = learning_curves(data, options, {0.1, 1, 10}, {1, 2}, one);
  const auto count = [&](const std::string& text) {
    int found = 0;
    for (std::size_t at = 0; (at = image.find(text, at)) != std::string::npos; ++at) ++found;
    return found;
  };
  CHECK(count("<polyline") == 12);
  CHECK(count(">diverged<") == 6);
  CHECK(count(">learning rate ") == 3);
  CHECK(count(">weight scale ") == 2);
  CHECK(count("nan") == 0);
  CHECK(image.rfind("<svg ", 0) == 0);
}

TEST_CASE("text in the image cannot break it", "[report]") {
  Svg svg(10, 10, "a<b");
  svg.text(1, 2, "R&D <x>", "");
  CHECK(svg.str().find("<title>a&lt;b</title>") != std::string::npos);
  CHECK(svg.str().find("R&amp;D &lt;x>") != std::string::npos);
}
