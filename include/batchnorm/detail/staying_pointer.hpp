// A pointer that an object keeps for itself.

#ifndef BATCHNORM_DETAIL_STAYING_POINTER_HPP
#define BATCHNORM_DETAIL_STAYING_POINTER_HPP

#include "batchnorm/detail/interface/config.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A pointer that stays with the object of which it is a member: copies of the object, and what it is moved into, begin
/// with null, and an object that is assigned to keeps its own. So none but the object that was told of the target
/// reaches it, and none outlives it by being copied.
template <class T>
class StayingPointer {
 public:
  StayingPointer() = default;
  StayingPointer(const StayingPointer&) noexcept {}
  StayingPointer(StayingPointer&&) noexcept {}
  // NOLINTNEXTLINE(bugprone-unhandled-self-assignment): it keeps what it has, whatever is assigned
  StayingPointer& operator=(const StayingPointer&) noexcept { return *this; }
  StayingPointer& operator=(StayingPointer&&) noexcept { return *this; }
  ~StayingPointer() = default;

  StayingPointer& operator=(T* target) noexcept {
    target_ = target;
    return *this;
  }
  T* get() const noexcept { return target_; }

 private:
  T* target_ = nullptr;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_STAYING_POINTER_HPP
