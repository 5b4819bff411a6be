// Tensors and matrices of any rank as a pointer, extents and strides, known when the program runs.

#ifndef BATCHNORM_DETAIL_INTERFACE_STRIDED_HPP
#define BATCHNORM_DETAIL_INTERFACE_STRIDED_HPP

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "batchnorm/detail/interface/checks.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Elements in memory: how many along each axis, and how far apart.
template <class T>
struct Strided {
  T* data = nullptr;
  std::vector<std::int64_t> shape{}, strides{};

  std::int64_t size() const {
    std::int64_t result = 1;
    for (const std::int64_t extent : shape) result *= extent;
    return result;
  }
};

/// The strides of elements without gaps.
inline std::vector<std::int64_t> dense_strides(const std::vector<std::int64_t>& shape, bool row_major) {
  std::vector<std::int64_t> strides(shape.size());
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const std::size_t axis = row_major ? shape.size() - 1 - i : i;
    strides[axis] = stride;
    stride *= shape[axis];
  }
  return strides;
}

/// A tensor, or a matrix or array of Eigen's, whose elements lie in memory. A matrix has two axes, rows and columns;
/// what is a vector at compile time has one where `vectors_are_flat`.
template <class T, class X>
Strided<T> strided(X& x, bool vectors_are_flat) {
  Strided<T> result;
  result.data = x.data();
  if constexpr (is_dense<X>) {
    if (is_vector<X> && vectors_are_flat) {
      result.shape = {static_cast<std::int64_t>(x.size())};
      result.strides = {static_cast<std::int64_t>(x.innerStride())};
    } else {
      const auto inner = static_cast<std::int64_t>(x.innerStride()), outer = static_cast<std::int64_t>(x.outerStride());
      result.shape = {static_cast<std::int64_t>(x.rows()), static_cast<std::int64_t>(x.cols())};
      result.strides = {X::IsRowMajor ? outer : inner, X::IsRowMajor ? inner : outer};
    }
  } else {
    static_cast<void>(vectors_are_flat);
    const auto& dimensions = x.dimensions();
    using DimensionIndex = typename dimension_index<plain<decltype(dimensions)>>::type;
    for (int i = 0; i < rank_of<X>; ++i) {
      result.shape.push_back(static_cast<std::int64_t>(dimensions[static_cast<DimensionIndex>(i)]));
    }
    result.strides = dense_strides(result.shape, layout_of<X> == static_cast<int>(Eigen::RowMajor));
  }
  return result;
}

/// Goes over all elements, the last axis running fastest, and knows the offset of each in memory and its index.
class Walk {
 public:
  Walk(std::vector<std::int64_t> shape, std::vector<std::int64_t> strides)
      : shape_(std::move(shape)), strides_(std::move(strides)), index_(shape_.size(), 0) {}
  template <class T>
  explicit Walk(const Strided<T>& elements) : Walk(elements.shape, elements.strides) {}

  std::int64_t offset() const { return offset_; }
  std::int64_t index(std::size_t axis) const { return index_[axis]; }

  void next() {
    for (std::size_t axis = shape_.size(); axis-- > 0;) {
      offset_ += strides_[axis];
      if (++index_[axis] < shape_[axis]) return;
      offset_ -= index_[axis] * strides_[axis];
      index_[axis] = 0;
    }
  }

 private:
  std::vector<std::int64_t> shape_, strides_, index_;
  std::int64_t offset_ = 0;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_STRIDED_HPP
