// The results in words: the table and the last line.

#ifndef TRAIN_DIGITS_REPORT_HPP
#define TRAIN_DIGITS_REPORT_HPP

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "experiment.hpp"
#include "format.hpp"

namespace train_digits {

constexpr double good_accuracy = 0.95;

namespace detail {

inline std::string right_aligned(const std::string& text, std::size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

inline std::string epochs_to_good(const RunResult& result) {
  if (result.diverged) return "diverged";
  const std::optional<int> epochs = result.epochs_to(good_accuracy);
  return epochs ? std::to_string(*epochs) : "never";
}

}  // namespace detail

// Accuracies are those after the last epoch, not the best of all epochs.
inline std::string results_table(const std::vector<Comparison>& comparisons) {
  using detail::epochs_to_good;
  using detail::right_aligned;
  std::string table =
      "learning  weight     with batch normalization                 without\n"
      "    rate   scale    accuracy   epochs to 95 %      accuracy   epochs to 95 %\n";
  for (const Comparison& row : comparisons) {
    table += right_aligned(shortest(row.learning_rate), 8) + right_aligned(shortest(row.weight_scale), 8) +
             right_aligned(percent(row.with.final_accuracy()), 12) + right_aligned(epochs_to_good(row.with), 17) +
             right_aligned(percent(row.without.final_accuracy()), 14) + right_aligned(epochs_to_good(row.without), 17) +
             "\n";
  }
  return table;
}

// How many of the settings end at 95 % or more.
inline std::string successes_line(const std::vector<Comparison>& comparisons) {
  const auto successes = [&](RunResult Comparison::*side) {
    return std::to_string(std::count_if(comparisons.begin(), comparisons.end(), [&](const Comparison& row) {
      return (row.*side).final_accuracy() >= good_accuracy;
    }));
  };
  return "settings that end at 95 % or more: " + successes(&Comparison::with) + " of " +
         std::to_string(comparisons.size()) + " with batch normalization, " + successes(&Comparison::without) +
         " without";
}

// The best row of the table on either side.
inline std::string best_line(const std::vector<Comparison>& comparisons) {
  const auto best = [&](RunResult Comparison::*side) {
    double accuracy = 0;
    for (const Comparison& row : comparisons) accuracy = std::max(accuracy, (row.*side).final_accuracy());
    return percent(accuracy);
  };
  return "best test accuracy: " + best(&Comparison::with) + " with batch normalization, " + best(&Comparison::without) +
         " without";
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_REPORT_HPP
