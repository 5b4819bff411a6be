// The optdigits data: lines of 64 pixel values 0 to 16 (8 rows of 8) and the digit, with commas between them.

#ifndef TRAIN_DIGITS_READ_CSV_HPP
#define TRAIN_DIGITS_READ_CSV_HPP

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bad_input.hpp"
#include "dataset.hpp"
#include "parse_number.hpp"

namespace train_digits {

constexpr Index csv_side = 8;
constexpr int csv_full_ink = 16;

namespace detail {

// The fields of one line, as text.
inline std::vector<std::string_view> split_at_commas(std::string_view line) {
  std::vector<std::string_view> fields;
  for (;;) {
    const std::size_t comma = line.find(',');
    fields.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return fields;
    line.remove_prefix(comma + 1);
  }
}

inline int csv_value(std::string_view text, int largest, const std::string& where) {
  const std::optional<int> value = parse_integer<int>(text);
  if (!value || *value < 0 || *value > largest) {
    throw BadInput(where + ": expected an integer from 0 to " + std::to_string(largest) + ", got '" +
                   std::string(text) + "'");
  }
  return *value;
}

}  // namespace detail

// Throws BadInput with the file, the line and the field of the first mistake.
inline Examples read_csv(const std::filesystem::path& file) {
  std::ifstream stream(file);
  if (!stream) throw BadInput(file.string() + ": cannot open this file");

  constexpr std::size_t pixels = csv_side * csv_side;
  std::vector<float> ink;
  Examples examples;
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const std::string where = file.string() + ":" + std::to_string(number);
    const std::vector<std::string_view> fields = detail::split_at_commas(line);
    if (fields.size() != pixels + 1) {
      throw BadInput(where + ": expected " + std::to_string(pixels + 1) +
                     " comma-separated integers (64 pixels and the digit), got " +
                     (line.empty() ? "an empty line" : std::to_string(fields.size())));
    }
    for (std::size_t i = 0; i < pixels; ++i) {
      const int value = detail::csv_value(fields[i], csv_full_ink, where + ", field " + std::to_string(i + 1));
      ink.push_back(static_cast<float>(value) / csv_full_ink);
    }
    examples.labels.push_back(
        detail::csv_value(fields[pixels], digit_count - 1, where + ", field " + std::to_string(pixels + 1)));
  }
  if (stream.bad()) throw BadInput(file.string() + ": reading failed");
  if (examples.labels.empty()) throw BadInput(file.string() + ": expected lines of digits, got an empty file");

  examples.images.resize(static_cast<Index>(examples.labels.size()), csv_side * csv_side);
  std::copy(ink.begin(), ink.end(), examples.images.data());
  return examples;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_READ_CSV_HPP
