// How the library says that something is wrong: one message that names what was expected and what came.

#ifndef BATCHNORM_DETAIL_INTERFACE_ERROR_HPP
#define BATCHNORM_DETAIL_INTERFACE_ERROR_HPP

#include <sstream>
#include <stdexcept>
#include <string>

#include "batchnorm/detail/interface/config.hpp"

#if BATCHNORM_CPLUSPLUS < 201703L
#error "batchnorm needs C++17 or later"
#endif
#if !BATCHNORM_EXCEPTIONS
#include <cstdio>
#include <cstdlib>
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// Throws an Error whose message is "batchnorm: " and then the parts one after another; where exceptions are disabled,
// writes it to stderr and aborts.
template <class Error, class... Parts>
[[noreturn]] BATCHNORM_COLD void fail(const Parts&... parts) {
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

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) fail<std::invalid_argument>(parts...);
}

/// A shape as "[8, 32, 7, 7]", written only where a message is.
template <class Shape>
struct ShapeText {
  const Shape& shape;

  friend std::ostream& operator<<(std::ostream& out, const ShapeText& text) {
    out << '[';
    for (std::size_t i = 0; i < text.shape.size(); ++i) out << (i == 0 ? "" : ", ") << text.shape[i];
    return out << ']';
  }
};

template <class Shape>
ShapeText<Shape> shape_text(const Shape& shape) {
  return {shape};
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_ERROR_HPP
