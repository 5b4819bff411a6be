// All runs of the comparison, several at a time.

#ifndef TRAIN_DIGITS_EXPERIMENT_HPP
#define TRAIN_DIGITS_EXPERIMENT_HPP

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "dataset.hpp"
#include "training.hpp"

namespace train_digits {

// The same settings, seed and data, with and without batch normalization.
struct Comparison {
  double learning_rate;
  double weight_scale;
  RunResult with;
  RunResult without;
};

// Calls observer.epoch_done(run, settings, epoch_result) and observer.run_done(run, settings, run_result) from the
// threads of the runs; runs are numbered from 0, two for each comparison. The results come in the order of the learning
// rates, then the weight scales, and are the same for any number of threads.
template <typename Observer>
std::vector<Comparison> run_experiment(const Dataset& data, const TrainingOptions& options,
                                       const std::vector<double>& learning_rates,
                                       const std::vector<double>& weight_scales, unsigned threads, Observer& observer) {
  std::vector<Comparison> comparisons;
  for (const double learning_rate : learning_rates) {
    for (const double weight_scale : weight_scales) comparisons.push_back({learning_rate, weight_scale, {}, {}});
  }

  const std::size_t runs = 2 * comparisons.size();
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&] {
    try {
      for (std::size_t run; (run = next++) < runs;) {
        Comparison& comparison = comparisons[run / 2];
        const bool batch_norm = run % 2 == 0;
        const RunSettings settings{comparison.learning_rate, comparison.weight_scale, batch_norm};
        RunResult& result = batch_norm ? comparison.with : comparison.without;
        result = train(data, options, settings,
                       [&](const EpochResult& epoch) { observer.epoch_done(run, settings, epoch); });
        observer.run_done(run, settings, result);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(failure_mutex);
      failure = std::current_exception();
      next = runs;
    }
  };

  std::vector<std::thread> workers;
  for (std::size_t i = 0; i < std::min<std::size_t>(threads, runs); ++i) workers.emplace_back(work);
  for (std::thread& worker : workers) worker.join();
  if (failure) std::rethrow_exception(failure);
  return comparisons;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_EXPERIMENT_HPP
