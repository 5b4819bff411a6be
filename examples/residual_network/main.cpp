// Trains a small residual network with batch normalization, addition and relu fused, and the same network with them as
// three operations, and prints what fusing saved in time and in bytes kept for backward.
//
// To read it from the top: norm_add_relu.hpp (fused and not), network.hpp (blocks and the whole), training.hpp; then
// convolution.hpp and momentum_sgd.hpp. The images, the classifier and the loss are those of the example
// why_batch_norm.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "../why_batch_norm/draw_digits.hpp"
#include "../why_batch_norm/load_dataset.hpp"
#include "training.hpp"

namespace {

using namespace residual_network;

const char* name_of(Mode mode) {
  if (mode == Mode::fused) return "fused";
  return mode == Mode::unfused ? "three operations" : "three, in place";
}

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

double norm_milliseconds(const Result& result) { return median(result.norm_forward) + median(result.norm_backward); }

void print_table(const std::vector<Mode>& modes, const std::vector<Result>& results) {
  std::cout << "\n                      test                 batch norm + add + relu       kept for\n"
               "                  accuracy        step      forward     backward       backward\n"
            << std::fixed;
  for (std::size_t i = 0; i < modes.size(); ++i) {
    const Result& result = results[i];
    std::cout << std::left << std::setw(18) << name_of(modes[i]) << std::right << std::setprecision(1) << std::setw(6)
              << 100 * result.accuracy << " %" << std::setw(9) << median(result.step) << " ms" << std::setprecision(2)
              << std::setw(10) << median(result.norm_forward) << " ms" << std::setw(10) << median(result.norm_backward)
              << " ms" << std::setprecision(1) << std::setw(11) << mebibytes(result.bytes_kept) << " MiB\n";
  }
  std::cout << "Times are medians of " << results.front().step.size() << " steps, on one thread.\n";
}

// What the first result, the fused one, has on another.
void print_savings(const Result& fused, Mode mode, const Result& other) {
  const double saved = norm_milliseconds(other) - norm_milliseconds(fused);
  const double saved_mebibytes = mebibytes(other.bytes_kept) - mebibytes(fused.bytes_kept);
  double difference = 0;
  double first_difference = 0;
  for (std::size_t i = 0; i < fused.losses.size(); ++i) {
    difference = std::max(difference, std::abs(fused.losses[i] - other.losses[i]));
    if (i < 10) first_difference = difference;
  }
  std::cout << "\nFrom \"" << name_of(mode) << "\" to fused: " << std::setprecision(2) << saved << " of "
            << norm_milliseconds(other) << " ms of batch norm + add + relu a step saved (" << std::setprecision(0)
            << 100 * saved / norm_milliseconds(other) << " %), which is " << std::setprecision(1)
            << 100 * saved / median(other.step) << " % of a step,\nand " << saved_mebibytes << " of "
            << mebibytes(other.bytes_kept) << " MiB kept for backward. The losses differ by at most " << std::scientific
            << std::setprecision(0) << first_difference << " in the first 10 steps and " << difference << " in all.\n"
            << std::fixed;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Trains a small residual network with batch normalization, addition and relu fused, and as three operations, and "
      "prints what fusing saved.");
  app.option_defaults()->always_capture_default();
  std::string folder;
  Settings settings;
  bool fused = false;
  bool unfused = false;
  bool in_place = false;
  bool quick = false;
  Index side = 14;
  app.add_option("--data", folder,
                 "folder with MNIST's four files, or others of their kind, each with .gz or without (default: digits "
                 "that the program draws)");
  app.add_option("--side", side, "images of at least twice as many pixels a side are averaged down; 0: as they are")
      ->check(CLI::Range(0, 1024));
  app.add_option("--steps", settings.steps, "how many batches each network learns from")->check(CLI::Range(1, 1000000));
  app.add_option("--batch", settings.batch_size, "images in a batch")->check(CLI::Range(2, 100000));
  app.add_option("--channels", settings.channels, "channels of every convolution")->check(CLI::Range(1, 1024));
  app.add_option("--blocks", settings.blocks, "residual blocks, of two convolutions each")->check(CLI::Range(0, 100));
  app.add_option("--rate", settings.learning_rate, "learning rate of the first step")->check(CLI::Range(0.0, 100.0));
  app.add_option("--seed", settings.seed, "seed of the weights and of the order of the images");
  app.add_flag("--fused", fused, "train the fused network; without this and the next two, all three are trained");
  app.add_flag("--unfused", unfused, "train the network of three operations, of which relu keeps its input");
  app.add_flag("--in-place", in_place, "train the network of three operations, of which relu overwrites its input");
  app.add_flag("--quick", quick, "show in seconds that everything works: few steps of a smaller network");
  CLI11_PARSE(app, argc, argv);

  std::vector<Mode> modes;
  if (fused) modes.push_back(Mode::fused);
  if (unfused) modes.push_back(Mode::unfused);
  if (in_place) modes.push_back(Mode::in_place);
  if (modes.empty()) modes = {Mode::fused, Mode::unfused, Mode::in_place};
  if (quick) {
    settings.steps = std::min(settings.steps, 20);
    settings.channels = std::min<Index>(settings.channels, 8);
    settings.blocks = std::min<Index>(settings.blocks, 1);
  }

  try {
    const std::size_t drawn_train = quick ? 1500 : 8000;
    const std::size_t tested = quick ? 200 : 2000;
    why_batch_norm::Dataset data = why_batch_norm::shrunk(
        folder.empty() ? why_batch_norm::draw_dataset(drawn_train, tested, 1) : why_batch_norm::load_dataset(folder),
        side);
    data.test = why_batch_norm::range_of(data.test, 0, tested);
    std::cout << data.name << ": " << data.train.size() << " images to train on, " << data.test.size()
              << " to test, of " << data.height << " x " << data.width << " pixels\nnetwork: " << settings.blocks
              << " blocks of " << settings.channels << " channels, batches of " << settings.batch_size << "\n";
    const int every = std::max(settings.steps / 10, 1);
    const std::vector<Result> results = train(data, settings, modes, [&](int step, double loss) {
      if (step % every != 0) return;
      std::cout << "step " << std::setw(5) << step << "  loss " << std::fixed << std::setprecision(4) << loss
                << std::endl;
    });
    print_table(modes, results);
    if (modes.front() != Mode::fused) return 0;
    for (std::size_t i = 1; i < modes.size(); ++i) print_savings(results.front(), modes[i], results[i]);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "residual_network: " << error.what() << "\n";
    return 1;
  }
}
