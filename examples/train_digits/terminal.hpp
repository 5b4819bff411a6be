// Whether somebody watches.

#ifndef TRAIN_DIGITS_TERMINAL_HPP
#define TRAIN_DIGITS_TERMINAL_HPP

#if defined(_WIN32)
#include <io.h>
#else
#include <unistd.h>
#endif

namespace train_digits {

// True where standard output is a terminal, not a file or a pipe.
inline bool stdout_is_terminal() {
#if defined(_WIN32)
  return _isatty(1) != 0;
#else
  return isatty(STDOUT_FILENO) != 0;
#endif
}

}  // namespace train_digits

#endif  // TRAIN_DIGITS_TERMINAL_HPP
