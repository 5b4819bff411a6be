// What the program was given and cannot use.

#ifndef TRAIN_DIGITS_BAD_INPUT_HPP
#define TRAIN_DIGITS_BAD_INPUT_HPP

#include <stdexcept>

namespace train_digits {

// A file or folder: missing, unreadable or malformed. The message names it, what was expected and what came.
class BadInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The command line.
class BadUsage : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace train_digits

#endif  // TRAIN_DIGITS_BAD_INPUT_HPP
