// Numbers as text.

#ifndef TRAIN_DIGITS_FORMAT_HPP
#define TRAIN_DIGITS_FORMAT_HPP

#include <cstdio>
#include <string>

namespace train_digits {

// Always with this many digits after the point.
inline std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

// As short as it can be: 0.001, 1, 10.
inline std::string shortest(double value) {
  char text[64];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

// 0.9794 is "97.94 %".
inline std::string percent(double share) { return fixed(100.0 * share, 2) + " %"; }

}  // namespace train_digits

#endif  // TRAIN_DIGITS_FORMAT_HPP
