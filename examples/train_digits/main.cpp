// Trains a multilayer perceptron to read digits, with and without batch normalization, at several learning rates and
// weight scales, and compares them. See --help.
//
// To read it from the top: experiment.hpp (all runs), training.hpp (one run), network.hpp (the perceptron, where batch
// normalization comes in), then its parts linear.hpp, relu.hpp, softmax_cross_entropy.hpp and sgd.hpp. The digits come
// from draw_digits.hpp or load_dataset.hpp; progress.hpp, report.hpp and learning_curves.hpp show what came of it.

#include <chrono>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "bad_input.hpp"
#include "command_line.hpp"
#include "dataset.hpp"
#include "draw_digits.hpp"
#include "experiment.hpp"
#include "format.hpp"
#include "learning_curves.hpp"
#include "load_dataset.hpp"
#include "progress.hpp"
#include "report.hpp"
#include "terminal.hpp"
#include "training.hpp"

namespace {

using namespace train_digits;

Dataset make_dataset(const CommandLine& line) {
  constexpr std::size_t drawn_train = 6000;
  constexpr std::size_t drawn_test = 2000;
  Dataset data = line.data ? load_dataset(*line.data) : draw_dataset(drawn_train, drawn_test, line.seed);
  const std::size_t available = data.train.size();
  if (line.train_images < available) {
    data.train = first_examples(data.train, line.train_images);
    std::cout << "training on the first " << data.train.size() << " of " << available
              << " images (--train-images changes that)\n";
  }
  if (data.train.size() < 2) throw BadInput(*line.data + ": expected at least 2 training images, got 1");
  return data;
}

// Opens the file before the work, so that a bad path is known at once. What is in it stays until the end.
std::ofstream open_output(const std::string& path, std::ios::openmode mode) {
  std::ofstream stream(path, mode);
  if (!stream) throw BadInput(path + ": cannot write the learning curves here");
  return stream;
}

void run(const CommandLine& line) {
  const Dataset data = make_dataset(line);
  open_output(line.output, std::ios::app);
  TrainingOptions options;
  options.epochs = line.epochs;
  options.seed = line.seed;

  const std::size_t runs = 2 * line.learning_rates.size() * line.weight_scales.size();
  std::cout << data.name << ": " << data.train.size() << " images of " << data.height << " x " << data.width
            << " pixels to train on, " << data.test.size() << " to test\n"
            << runs << " runs of " << line.epochs << " epochs, each setting with and without batch normalization\n\n"
            << std::flush;

  const auto start = std::chrono::steady_clock::now();
  Progress progress(std::cout, stdout_is_terminal(), runs, line.epochs);
  const std::vector<Comparison> comparisons =
      run_experiment(data, options, line.learning_rates, line.weight_scales, line.threads, progress);
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;

  std::ofstream output = open_output(line.output, std::ios::trunc);
  output << learning_curves(data, options, line.learning_rates, line.weight_scales, comparisons) << std::flush;
  if (!output) throw BadInput(line.output + ": writing the learning curves failed");

  std::cout << (stdout_is_terminal() ? "" : "\n") << results_table(comparisons) << "\n"
            << successes_line(comparisons) << "\n"
            << "learning curves: " << std::filesystem::absolute(line.output).string() << "\n"
            << "time: " << fixed(elapsed.count(), 1) << " s\n"
            << best_line(comparisons) << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const CommandLine line = parse_command_line({argv + 1, argv + argc});
    if (line.help) {
      std::cout << help_text;
    } else {
      run(line);
    }
    return 0;
  } catch (const BadUsage& error) {
    std::cerr << "train_digits: " << error.what() << "\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << "train_digits: " << error.what() << "\n";
    return 1;
  }
}
