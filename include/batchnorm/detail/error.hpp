// How the library says that something is wrong: one message that names what was expected and what came.

#ifndef BATCHNORM_DETAIL_ERROR_HPP
#define BATCHNORM_DETAIL_ERROR_HPP

#include <sstream>
#include <stdexcept>
#include <string>

#include "batchnorm/detail/config.hpp"

#if !BATCHNORM_EXCEPTIONS
#include <cstdio>
#include <cstdlib>
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// Throws an Error whose message is "batchnorm: " and then the parts one after another; where exceptions are disabled,
// writes it to stderr and aborts.
template <class Error, class... Parts>
[[noreturn]] BATCHNORM_NOINLINE void fail(const Parts&... parts) {
  std::ostringstream message;
  message << "batchnorm: ";
  (message << ... << parts);
#if BATCHNORM_EXCEPTIONS
  throw Error(message.str());
#else
  std::fprintf(stderr, "%s\n", message.str().c_str());
  std::abort();
#endif
}

template <class Condition, class... Parts>
void require(const Condition& holds, const Parts&... parts) {
  if (!holds) fail<std::invalid_argument>(parts...);
}

// "[8, 32, 7, 7]" for anything indexable that has a size.
template <class Shape>
std::string shape_text(const Shape& shape) {
  std::ostringstream text;
  text << '[';
  for (std::size_t i = 0; i < shape.size(); ++i) text << (i == 0 ? "" : ", ") << shape[i];
  text << ']';
  return text.str();
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_ERROR_HPP
