// The program's flags.

#ifndef TRAIN_DIGITS_COMMAND_LINE_HPP
#define TRAIN_DIGITS_COMMAND_LINE_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bad_input.hpp"
#include "parse_number.hpp"

namespace train_digits {

struct CommandLine {
  bool help = false;
  std::optional<std::string> data;  // none: draw the digits
  std::string output = "learning_curves.svg";
  std::vector<double> learning_rates = {0.001, 0.01, 0.1, 1.0};
  std::vector<double> weight_scales = {0.1, 1.0, 10.0};
  int epochs = 20;
  std::size_t train_images = 10000;
  std::uint64_t seed = 1;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
};

inline constexpr const char* help_text =
    R"(usage: train_digits [--data DIR] [other options]

Trains a multilayer perceptron to read digits, with and without batch
normalization, at several learning rates and weight scales, and compares them.

  --data DIR           read the digits from this folder: MNIST's four IDX files,
                       uncompressed, or optdigits' train.csv and test.csv
                       (default: the program draws its own)
  --output FILE        where to write the learning curves, an SVG image
                       (default: learning_curves.svg)
  --learning-rates L   comma-separated (default: 0.001,0.01,0.1,1)
  --weight-scales L    factors on the usual deviation of the initial weights,
                       comma-separated (default: 0.1,1,10)
  --epochs N           passes over the training images (default: 20)
  --train-images N     train on at most the first N images (default: 10000)
  --seed N             seed of everything random (default: 1)
  --threads N          runs at the same time (default: one per processor);
                       the results do not depend on it
  --help               show this text
)";

namespace detail {

template <typename Integer>
Integer integer_from(const std::string& flag, const std::string& text, Integer smallest, Integer largest) {
  const std::optional<Integer> value = parse_integer<Integer>(text);
  if (!value || *value < smallest || *value > largest) {
    throw BadUsage(flag + ": expected an integer from " + std::to_string(smallest) + " to " + std::to_string(largest) +
                   ", got '" + text + "'");
  }
  return *value;
}

inline std::vector<double> positive_numbers_from(const std::string& flag, const std::string& text) {
  std::vector<double> numbers;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    const std::optional<double> value = parse_double(text.substr(begin, end - begin));
    if (!value || *value <= 0) {
      throw BadUsage(flag + ": expected positive numbers with commas between them, got '" + text + "'");
    }
    numbers.push_back(*value);
    begin = end + 1;
  }
  constexpr std::size_t most = 8;  // as many as fit side by side in the image
  if (numbers.size() > most) {
    throw BadUsage(flag + ": expected at most " + std::to_string(most) + " numbers, got " +
                   std::to_string(numbers.size()));
  }
  return numbers;
}

}  // namespace detail

// Takes the arguments without the program's name, as --flag value or --flag=value. Throws BadUsage.
inline CommandLine parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::size_t equals = arguments[i].find('=');
    const std::string flag = arguments[i].substr(0, equals);
    const auto value = [&]() -> std::string {
      if (equals != std::string::npos) return arguments[i].substr(equals + 1);
      if (i + 1 == arguments.size()) throw BadUsage(flag + ": expected a value after it, got nothing");
      return arguments[++i];
    };
    if (flag == "--help" || flag == "-h") {
      line.help = true;
    } else if (flag == "--data") {
      line.data = value();
    } else if (flag == "--output") {
      line.output = value();
    } else if (flag == "--learning-rates") {
      line.learning_rates = detail::positive_numbers_from(flag, value());
    } else if (flag == "--weight-scales") {
      line.weight_scales = detail::positive_numbers_from(flag, value());
    } else if (flag == "--epochs") {
      line.epochs = detail::integer_from<int>(flag, value(), 1, 10000);
    } else if (flag == "--train-images") {
      line.train_images = detail::integer_from<std::size_t>(flag, value(), 2, 10000000);
    } else if (flag == "--seed") {
      line.seed = detail::integer_from<std::uint64_t>(flag, value(), 0, 1000000000);
    } else if (flag == "--threads") {
      line.threads = detail::integer_from<unsigned>(flag, value(), 1, 1024);
    } else {
      throw BadUsage("unknown argument '" + arguments[i] + "'; --help lists the ones there are");
    }
  }
  return line;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_COMMAND_LINE_HPP
