// Numbers from text, all of the text or nothing.

#ifndef TRAIN_DIGITS_PARSE_NUMBER_HPP
#define TRAIN_DIGITS_PARSE_NUMBER_HPP

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

namespace train_digits {

template <typename Integer>
std::optional<Integer> parse_integer(std::string_view text) {
  Integer value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// Finite numbers only. (std::from_chars for double is missing from some C++17 standard libraries.)
inline std::optional<double> parse_double(const std::string& text) {
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) return std::nullopt;
  char* stop = nullptr;
  const double value = std::strtod(text.c_str(), &stop);
  if (text.empty() || *stop != '\0' || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_PARSE_NUMBER_HPP
