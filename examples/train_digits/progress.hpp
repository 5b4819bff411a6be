// What the user sees while the runs go on: a bar on a terminal, a line for each finished run elsewhere.

#ifndef TRAIN_DIGITS_PROGRESS_HPP
#define TRAIN_DIGITS_PROGRESS_HPP

#include <cstddef>
#include <mutex>
#include <numeric>
#include <ostream>
#include <string>
#include <vector>

#include "format.hpp"
#include "training.hpp"

namespace train_digits {

// May be told of progress by many threads at once.
class Progress {
 public:
  Progress(std::ostream& out, bool terminal, std::size_t runs, int epochs)
      : out_(out), terminal_(terminal), epochs_(static_cast<std::size_t>(epochs)), done_(runs, 0), lines_(runs) {}

  void epoch_done(std::size_t run, const RunSettings& settings, const EpochResult& epoch) {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++done_[run];
    if (terminal_) draw(settings, epoch);
  }

  // Lines come in the order of the runs, whichever ends first.
  void run_done(std::size_t run, const RunSettings& settings, const RunResult& result) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_[run] = epochs_;  // a run that diverged leaves its other epochs out
    lines_[run] = line(run, settings, result);
    for (; next_line_ < lines_.size() && !lines_[next_line_].empty(); ++next_line_) {
      if (!terminal_) out_ << lines_[next_line_] << std::endl;
    }
    if (terminal_ && next_line_ == lines_.size()) out_ << '\r' << std::string(width, ' ') << '\r' << std::flush;
  }

 private:
  static constexpr std::size_t width = 79;

  static std::string describe(const RunSettings& settings) {
    return "rate " + shortest(settings.learning_rate) + ", scale " + shortest(settings.weight_scale) +
           (settings.batch_norm ? ", with" : ", without");
  }

  // [======>     ]  53 %  rate 0.1, scale 1, with: loss 0.034, accuracy 97.1 %
  void draw(const RunSettings& settings, const EpochResult& result) {
    const std::size_t done = std::accumulate(done_.begin(), done_.end(), std::size_t{0});
    const std::size_t total = epochs_ * done_.size();
    constexpr std::size_t length = 12;
    std::string bar(length * done / total, '=');
    if (bar.size() < length) bar += '>';
    bar.resize(length, ' ');
    const std::string share = std::to_string(100 * done / total);
    std::string text = "[" + bar + "] " + std::string(3 - share.size(), ' ') + share + " %  " + describe(settings) +
                       ": loss " + shortest_loss(result.loss) + ", accuracy " + fixed(100 * result.test_accuracy, 1) +
                       " %";
    text.resize(width, ' ');
    out_ << '\r' << text << std::flush;
  }

  static std::string shortest_loss(double loss) { return loss < 100 ? fixed(loss, 3) : shortest(loss); }

  std::string line(std::size_t run, const RunSettings& settings, const RunResult& result) const {
    std::string text = "run " + std::to_string(run + 1) + " of " + std::to_string(lines_.size()) + ": " +
                       describe(settings) + " batch normalization: ";
    if (result.diverged) return text + "diverged in epoch " + std::to_string(result.epochs.size());
    return text + "loss " + shortest_loss(result.epochs.back().loss) + ", test accuracy " +
           percent(result.final_accuracy());
  }

  std::ostream& out_;
  bool terminal_;
  std::size_t epochs_;
  std::vector<std::size_t> done_;   // epochs, for each run
  std::vector<std::string> lines_;  // for each run that ended
  std::size_t next_line_ = 0;
  std::mutex mutex_;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_PROGRESS_HPP
