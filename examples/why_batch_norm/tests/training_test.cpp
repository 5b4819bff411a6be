// Whole training runs.

#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <vector>

#include "../../../tests/catch.hpp"
#include "../draw_digits.hpp"
#include "../experiment.hpp"

using namespace why_batch_norm;

namespace {

struct NoObserver {
  void epoch_done(std::size_t, const RunSettings&, const EpochResult&) {}
  void run_done(std::size_t, const RunSettings&, const RunResult&) {}
};

TrainingOptions small_options() {
  TrainingOptions options;
  options.hidden = {32, 32};
  options.batch_size = 32;
  options.epochs = 3;
  return options;
}

void check_equal(const RunResult& a, const RunResult& b) {
  CHECK(a.diverged == b.diverged);
  REQUIRE(a.epochs.size() == b.epochs.size());
  for (std::size_t i = 0; i < a.epochs.size(); ++i) {
    if (!(a.diverged && i + 1 == a.epochs.size())) CHECK(a.epochs[i].loss == b.epochs[i].loss);
    CHECK(a.epochs[i].test_accuracy == b.epochs[i].test_accuracy);
  }
}

}  // namespace

TEST_CASE("the results are the same for any number of threads", "[training]") {
  const Dataset data = draw_dataset(200, 100, 1);
  NoObserver observer;
  const auto run = [&](unsigned threads) {
    return run_experiment(data, small_options(), {0.01, 1}, {1, 30}, threads, observer);
  };
  const std::vector<Comparison> one = run(1);
  REQUIRE(one.size() == 4);
  for (const unsigned threads : {2U, 3U, 7U}) {
    const std::vector<Comparison> many = run(threads);
    REQUIRE(many.size() == one.size());
    for (std::size_t i = 0; i < one.size(); ++i) {
      CHECK(many[i].learning_rate == one[i].learning_rate);
      CHECK(many[i].weight_scale == one[i].weight_scale);
      check_equal(many[i].with, one[i].with);
      check_equal(many[i].without, one[i].without);
    }
  }
}

TEST_CASE("drawn digits are learned", "[training]") {
  const Dataset data = draw_dataset(1000, 300, 1);
  const RunResult result = train(data, small_options(), {0.1, 1.0, true}, [](const EpochResult&) {});
  CHECK(result.epochs.size() == 3);
  CHECK(result.final_accuracy() > 0.8);  // guessing gives 0.1
  CHECK(result.epochs.front().loss > result.epochs.back().loss);
}

TEST_CASE("a run whose loss is not finite stops and says so", "[training]") {
  const Dataset data = draw_dataset(200, 100, 1);
  const RunResult result = train(data, small_options(), {1000.0, 100.0, false}, [](const EpochResult&) {});
  CHECK(result.diverged);
  CHECK(result.epochs.size() == 1);
}

TEST_CASE("the learning rate falls from all of it to nearly nothing", "[training]") {
  CHECK(cosine_decay(0, 100) == 1.0);
  CHECK(std::abs(cosine_decay(50, 100) - 0.5) < 1e-15);
  CHECK(cosine_decay(99, 100) < 0.001);
}

TEST_CASE("an exception in a run reaches the caller", "[training]") {
  struct Thrower : NoObserver {
    void run_done(std::size_t, const RunSettings&, const RunResult&) { throw std::runtime_error("stop"); }
  } observer;
  const Dataset data = draw_dataset(50, 20, 1);
  CHECK_THROWS_WITH(run_experiment(data, small_options(), {0.1}, {1}, 2, observer), "stop");
}
