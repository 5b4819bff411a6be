// What the library asks of an Eigen tensor, or of a matrix or array as one of rank 2: its type, shape and memory, and
// an expression's value as one temporary.

#ifndef BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP
#define BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/error.hpp"
#include "batchnorm/detail/interface/kinds.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Sizes and offsets in our own arithmetic: 64 bits, also where Eigen is told to index by fewer.
using Index = std::conditional_t<(sizeof(Eigen::Index) >= sizeof(std::int64_t)), Eigen::Index, std::int64_t>;

/// Whether an object of Eigen's matrices or arrays has its elements in memory, and how far apart the neighbouring ones
/// of a column are, or of a row where it is row-major.
template <class X, bool = is_dense<X>>
struct dense_memory {
  static constexpr bool direct = false, vector = false;
  static constexpr int inner_stride = 0;
};
template <class X>
struct dense_memory<X, true> {
  static constexpr bool direct = (static_cast<unsigned>(X::Flags) & Eigen::DirectAccessBit) != 0;
  static constexpr bool vector = X::IsVectorAtCompileTime;
  static constexpr int inner_stride = X::InnerStrideAtCompileTime;
};

/// Whether a matrix is a vector by its type. It is one sample, on whichever axis the channels are.
template <class X>
inline constexpr bool is_vector = dense_memory<plain<X>>::vector;

/// What is read in place: Tensor, TensorFixedSize and TensorMap; of matrices and arrays what has its columns, or its
/// rows if it is row-major, in memory without gaps, and vectors with any.
template <class X>
inline constexpr bool has_storage = dense_memory<X>::direct &&
                                    (dense_memory<X>::vector || dense_memory<X>::inner_stride == 1);
template <class T, int Dims, int Options, class IndexType>
inline constexpr bool has_storage<Eigen::Tensor<T, Dims, Options, IndexType>> = true;
template <class T, class Sizes, int Options, class IndexType>
inline constexpr bool has_storage<Eigen::TensorFixedSize<T, Sizes, Options, IndexType>> = true;
template <class Plain, int Options, template <class> class Pointer>
inline constexpr bool has_storage<Eigen::TensorMap<Plain, Options, Pointer>> = true;

/// What is read in place if there turn out to be no gaps.
template <class X>
inline constexpr bool may_have_storage =
    dense_memory<X>::direct && !has_storage<X> && dense_memory<X>::inner_stride == Eigen::Dynamic;

// In its own struct so that nothing is asked of a type that is neither.
template <class X, bool = is_tensor<X>, bool = is_dense<X>>
struct tensor_traits {
  using Scalar = void;
  using Index = Eigen::Index;
  using Value = void;
  static constexpr int rank = 0;
  static constexpr int layout = Eigen::ColMajor;
};
template <class X>
struct tensor_traits<X, true, false> {
  using Traits = Eigen::internal::traits<plain<X>>;
  using Scalar = std::remove_const_t<typename Traits::Scalar>;
  using Index = typename Traits::Index;
  static constexpr int rank = Traits::NumDimensions;
  static constexpr int layout = static_cast<int>(Traits::Layout);
  using Value = Eigen::Tensor<Scalar, rank, layout, Index>;
};
template <class X>
struct tensor_traits<X, false, true> {
  using Scalar = std::remove_const_t<typename plain<X>::Scalar>;
  using Index = Eigen::Index;
  using Value = typename plain<X>::PlainObject;
  static constexpr int rank = 2;
  static constexpr bool row_major = has_storage<plain<X>> ? plain<X>::IsRowMajor : Value::IsRowMajor;
  static constexpr int layout = row_major ? Eigen::RowMajor : Eigen::ColMajor;
};

template <class X>
using scalar_of = typename tensor_traits<X>::Scalar;
template <class X>
inline constexpr int rank_of = tensor_traits<X>::rank;
template <class X>
inline constexpr int layout_of = tensor_traits<X>::layout;

/// The tensor or matrix that holds the value of an expression like X, or a result for it.
template <class X>
using tensor_like = typename tensor_traits<X>::Value;

// Eigen's Sizes<...> is indexed by a signed number, its DSizes by an unsigned one.
template <class Dimensions>
struct dimension_index {
  using type = std::size_t;
};
template <std::ptrdiff_t... sizes>
struct dimension_index<Eigen::Sizes<sizes...>> {
  using type = std::ptrdiff_t;
};

template <int Dims>
using Shape = std::array<Index, static_cast<std::size_t>(Dims)>;

/// The sizes along each axis. A vector is one sample, and its elements those of the channel axis.
template <class X>
Shape<rank_of<X>> shape_of(const X& x, int axis) {
  Shape<rank_of<X>> shape{};
  if constexpr (is_vector<X>) {
    shape = {1, 1};
    shape[static_cast<std::size_t>(axis)] = static_cast<Index>(x.size());
  } else if constexpr (is_dense<X>) {
    shape = {static_cast<Index>(x.rows()), static_cast<Index>(x.cols())};
  } else {
    const auto& dimensions = x.dimensions();
    using DimensionIndex = typename dimension_index<plain<decltype(dimensions)>>::type;
    for (std::size_t i = 0; i < shape.size(); ++i) {
      shape[i] = static_cast<Index>(dimensions[static_cast<DimensionIndex>(i)]);
    }
  }
  return shape;
}

/// A tensor or matrix of x's shape for a result.
template <class X>
tensor_like<X> result_like(const X& x) {
  if constexpr (is_dense<X>) {
    if constexpr (tensor_like<X>::SizeAtCompileTime == Eigen::Dynamic) {
      return tensor_like<X>(x.rows(), x.cols());
    } else {
      return tensor_like<X>();
    }
  } else {
    Eigen::array<typename tensor_traits<X>::Index, static_cast<std::size_t>(rank_of<X>)> dimensions;
    const auto shape = shape_of(x, 0);
    for (std::size_t i = 0; i < shape.size(); ++i) {
      dimensions[i] = static_cast<typename tensor_traits<X>::Index>(shape[i]);
    }
    return tensor_like<X>(dimensions);
  }
}

/// A matrix whose type does not tell whether the elements of a column lie one after another: itself, as a map, or a
/// copy. (In this order: the map is made of what may be a copy.)
template <class X>
class MatrixInMemory : private std::optional<typename X::PlainObject>,
                       public Eigen::Map<const typename X::PlainObject, Eigen::Unaligned, Eigen::OuterStride<>> {
  using Copy = std::optional<typename X::PlainObject>;
  using Map = Eigen::Map<const typename X::PlainObject, Eigen::Unaligned, Eigen::OuterStride<>>;

 public:
  explicit MatrixInMemory(const X& x)
      : Copy(x.innerStride() == 1 ? Copy() : Copy(x)),
        Map(Copy::has_value() ? Copy::value().data() : x.data(), x.rows(), x.cols(),
            Eigen::OuterStride<>(Copy::has_value() ? Copy::value().outerStride() : x.outerStride())) {}
  MatrixInMemory(const MatrixInMemory&) = delete;
  MatrixInMemory& operator=(const MatrixInMemory&) = delete;
};

/// The tensor or matrix itself where its elements lie in memory, else its value, for a tensor computed on the caller's
/// threads if it has some.
template <class Device, class X>
decltype(auto) evaluated(const Device& device, const X& x) {
  if constexpr (has_storage<X>) {
    return (x);
  } else if constexpr (may_have_storage<X>) {
    return MatrixInMemory<X>(x);
  } else if constexpr (is_dense<X>) {
    return tensor_like<X>(x);
  } else {
    tensor_like<X> value;
    evaluate(device, x, value);
    return value;
  }
}

/// A tensor or matrix as the passes see it.
template <class T, int Dims>
struct TensorView {
  T* data;
  Shape<Dims> shape;
  /// From an element to the next along each axis, of a matrix that is not laid out as a tensor is.
  bool has_strides = false;
  Shape<Dims> strides{};
};

template <class T, class X>
TensorView<T, rank_of<X>> view_tensor(X& x, int axis) {
  TensorView<T, rank_of<X>> result{x.data(), shape_of(x, axis)};
  if constexpr (is_vector<X>) {
    const auto stride = static_cast<Index>(x.innerStride());
    result.has_strides = stride != 1;
    result.strides[static_cast<std::size_t>(axis)] = stride;
  } else if constexpr (is_dense<X>) {
    const auto inner = static_cast<Index>(x.innerStride()), outer = static_cast<Index>(x.outerStride());
    result.has_strides = inner != 1 || outer != static_cast<Index>(x.innerSize());
    result.strides = {X::IsRowMajor ? outer : inner, X::IsRowMajor ? inner : outer};
  }
  return result;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP
