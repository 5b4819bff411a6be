// A bool by which an object knows that it was moved from.

#ifndef BATCHNORM_DETAIL_MOVABLE_FLAG_HPP
#define BATCHNORM_DETAIL_MOVABLE_FLAG_HPP

#include <utility>

#include "batchnorm/detail/interface/config.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A bool that a move takes along and leaves false. As a member of an object whose moves are defaulted it says that the
/// rest of the object is still there: what Eigen's tensors leave behind when they are moved is not told by Eigen.
class MovableFlag {
 public:
  MovableFlag(bool value) noexcept : value_(value) {}  // NOLINT(google-explicit-constructor)
  MovableFlag(const MovableFlag&) = default;
  MovableFlag& operator=(const MovableFlag&) = default;
  MovableFlag(MovableFlag&& other) noexcept : value_(std::exchange(other.value_, false)) {}
  MovableFlag& operator=(MovableFlag&& other) noexcept {
    value_ = std::exchange(other.value_, false);
    return *this;
  }
  ~MovableFlag() = default;

  operator bool() const noexcept { return value_; }  // NOLINT(google-explicit-constructor)

 private:
  bool value_;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_MOVABLE_FLAG_HPP
