// What the program was given and cannot use.

#ifndef WHY_BATCH_NORM_BAD_INPUT_HPP
#define WHY_BATCH_NORM_BAD_INPUT_HPP

#include <stdexcept>

namespace why_batch_norm {

// A file, a folder or a setting: missing, unreadable, malformed or out of range. The message names it, what was
// expected and what came.
class BadInput : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace why_batch_norm

#endif  // WHY_BATCH_NORM_BAD_INPUT_HPP
