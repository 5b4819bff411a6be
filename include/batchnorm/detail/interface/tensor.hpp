// What the library asks of an Eigen tensor: its type, shape and memory, and an expression's value as one temporary.

#ifndef BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP
#define BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/error.hpp"
#include "batchnorm/detail/interface/kinds.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// Sizes and offsets in our own arithmetic: 64 bits, also where Eigen is told to index by fewer.
using Index = std::conditional_t<(sizeof(Eigen::Index) >= sizeof(std::int64_t)), Eigen::Index, std::int64_t>;

/// Tensors whose elements lie in memory: Tensor, TensorFixedSize and TensorMap.
template <class X>
inline constexpr bool has_storage = false;
template <class T, int Dims, int Options, class IndexType>
inline constexpr bool has_storage<Eigen::Tensor<T, Dims, Options, IndexType>> = true;
template <class T, class Sizes, int Options, class IndexType>
inline constexpr bool has_storage<Eigen::TensorFixedSize<T, Sizes, Options, IndexType>> = true;
template <class Plain, int Options, template <class> class Pointer>
inline constexpr bool has_storage<Eigen::TensorMap<Plain, Options, Pointer>> = true;

// In its own struct so that nothing is asked of a type that is no tensor.
template <class X, bool = is_tensor<X>>
struct tensor_traits {
  using Scalar = void;
  using Index = Eigen::Index;
  static constexpr int rank = 0;
  static constexpr int layout = Eigen::ColMajor;
};
template <class X>
struct tensor_traits<X, true> {
  using Traits = Eigen::internal::traits<plain<X>>;
  using Scalar = std::remove_const_t<typename Traits::Scalar>;
  using Index = typename Traits::Index;
  static constexpr int rank = Traits::NumDimensions;
  static constexpr int layout = Traits::Layout;
};

template <class X>
using scalar_of = typename tensor_traits<X>::Scalar;
template <class X>
inline constexpr int rank_of = tensor_traits<X>::rank;
template <class X>
inline constexpr int layout_of = tensor_traits<X>::layout;

/// The tensor that holds the value of an expression like X, or a result for it.
template <class X>
using tensor_like =
    Eigen::Tensor<scalar_of<X>, rank_of<X>, static_cast<int>(layout_of<X>), typename tensor_traits<X>::Index>;

template <class Y>
constexpr bool is_writable() {
  using Reference = std::remove_reference_t<Y>;
  if constexpr (!has_storage<plain<Y>>) {
    return false;
  } else if constexpr (std::is_same_v<plain<Y>, tensor_like<Y>>) {
    return std::is_lvalue_reference_v<Y> && !std::is_const_v<Reference>;  // a temporary's contents would be lost
  } else {
    using Element = std::remove_pointer_t<decltype(std::declval<Reference&>().data())>;
    return !std::is_const_v<Element>;
  }
}

// The checks of types say one thing and are false where it is wrong, so that nothing more is compiled of the call.

/// Whether T, a tensor's scalar, is a type of integers or of complex numbers. (void is that of what is no tensor.)
template <class T>
inline constexpr bool is_integer = std::is_integral_v<T> || Eigen::NumTraits<T>::IsInteger;
template <>
inline constexpr bool is_integer<void> = false;
template <class T>
inline constexpr bool is_complex = Eigen::NumTraits<T>::IsComplex;
template <>
inline constexpr bool is_complex<void> = false;
/// Any other is one of real numbers, which can be normalized.
template <class T>
inline constexpr bool is_real = !is_integer<T> && !is_complex<T>;

template <class T>
constexpr bool check_scalar_type() {
  static_assert(!is_integer<T>,
                "batchnorm: integers cannot hold normalized values: use float or double, for a tensor x.cast<float>()");
  static_assert(!is_complex<T>,
                "batchnorm: complex numbers cannot be normalized: use their real and imaginary parts, for a tensor "
                "x.real() and x.imag()");
  return is_real<T>;
}

/// What is said of an X that was handed in where a tensor of rank Dims is expected, and is none.
template <int Dims, class X>
constexpr void fail_for_no_tensor() {
  using Held = std::decay_t<X>;  // of an array a pointer
  constexpr bool is_pointer = std::is_pointer_v<Held>;
  if constexpr (is_dense<X> && Dims == 2) {
    static_assert(!is_dense<X>,
                  "batchnorm: expected an Eigen tensor, got a matrix: write "
                  "Eigen::TensorMap<const Eigen::Tensor<float, 2>>(matrix.data(), matrix.rows(), matrix.cols()), with "
                  "your scalar, and Tensor<float, 2, Eigen::RowMajor> if the matrix is row-major");
  } else if constexpr (is_dense<X>) {
    static_assert(
        !is_dense<X>,
        "batchnorm: a matrix has 2 axes, and the layer's tensors have another number of them (Dims): write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 4>>(matrix.data(), n, c, h, w), with your scalar, rank "
        "and sizes, and Tensor<float, 4, Eigen::RowMajor> if the matrix is row-major, or use a layer of rank 2");
  } else if constexpr (is_pointer && Dims == 2) {
    static_assert(
        !is_pointer,
        "batchnorm: a pointer does not tell the shape of what it points to: write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 2, Eigen::RowMajor>>(pointer, n, c), with your scalar and "
        "sizes and without the const for a result, or an Eigen::Map of a matrix where matrices are taken");
  } else if constexpr (is_pointer) {
    static_assert(!is_pointer,
                  "batchnorm: a pointer does not tell the shape of what it points to: write "
                  "Eigen::TensorMap<const Eigen::Tensor<float, 4, Eigen::RowMajor>>(pointer, n, c, h, w), with your "
                  "scalar, rank and sizes, and without the const for a result");
  } else if constexpr (has_numbers_in_memory<X> && Dims == 2) {
    static_assert(
        !has_numbers_in_memory<X>,
        "batchnorm: a container does not tell the shape of a tensor: write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 2, Eigen::RowMajor>>(values.data(), n, c), with your "
        "scalar and sizes and without the const for a result, or an Eigen::Map of a matrix where matrices are "
        "taken");
  } else if constexpr (has_numbers_in_memory<X>) {
    static_assert(
        !has_numbers_in_memory<X>,
        "batchnorm: a container does not tell the shape of a tensor: write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 4, Eigen::RowMajor>>(values.data(), n, c, h, w), with your "
        "scalar, rank and sizes, and without the const for a result");
  } else {
    static_assert(is_tensor<X>,
                  "batchnorm: expected an Eigen tensor: a Tensor, TensorFixedSize, TensorMap or an expression of them; "
                  "the values of anything else have to be copied into one");
  }
}

template <class T, int Dims, class X>
constexpr bool check_input_type() {
  if constexpr (!is_tensor<X>) fail_for_no_tensor<Dims, X>();
  if constexpr (is_tensor<X>) {
    constexpr bool same_rank = rank_of<X> == Dims, same_scalar = std::is_same_v<scalar_of<X>, T>;
    static_assert(same_rank, "batchnorm: the rank of the tensor differs from the layer's Dims");
    static_assert(!same_rank || same_scalar, "batchnorm: the tensor's scalar type differs from the layer's T");
    return same_rank && same_scalar;
  } else {
    return false;
  }
}

// Y as it was deduced for a forwarding reference.
template <class X, class Y>
constexpr bool check_output_type() {
  constexpr bool stored = is_tensor<Y> && has_storage<plain<Y>>;
  static_assert(
      stored,
      "batchnorm: the result can only be written to a Tensor, TensorFixedSize or TensorMap; for a pointer or a "
      "container's memory write Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>>(pointer, n, c, h, w), "
      "with your scalar, rank and sizes");
  if constexpr (stored) {
    constexpr bool writable = is_writable<Y>(), same_rank = rank_of<Y> == rank_of<X>;
    constexpr bool same_scalar = std::is_same_v<scalar_of<Y>, scalar_of<X>>;
    constexpr bool same_layout = static_cast<int>(layout_of<Y>) == static_cast<int>(layout_of<X>);
    static_assert(writable, "batchnorm: the result cannot be written to a constant or temporary tensor");
    static_assert(!writable || same_rank, "batchnorm: the rank of the result differs from the input's");
    static_assert(!(writable && same_rank) || same_scalar,
                  "batchnorm: the scalar type of the result differs from the input's");
    static_assert(!(writable && same_rank && same_scalar) || same_layout,
                  "batchnorm: the layout of the result differs from the input's (RowMajor or ColMajor)");
    return writable && same_rank && same_scalar && same_layout;
  } else {
    return false;
  }
}

template <class X, class Dy>
constexpr bool check_gradient_type() {
  constexpr bool same_layout = static_cast<int>(layout_of<X>) == static_cast<int>(layout_of<Dy>);
  static_assert(same_layout, "batchnorm: the layout of dy differs from that of x (RowMajor or ColMajor)");
  return same_layout;
}

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

template <class X>
Shape<rank_of<X>> shape_of(const X& x) {
  const auto& dimensions = x.dimensions();
  using DimensionIndex = typename dimension_index<plain<decltype(dimensions)>>::type;
  Shape<rank_of<X>> shape{};
  for (std::size_t i = 0; i < shape.size(); ++i) {
    shape[i] = static_cast<Index>(dimensions[static_cast<DimensionIndex>(i)]);
  }
  return shape;
}

/// A tensor of x's shape for a result.
template <class X>
tensor_like<X> result_like(const X& x) {
  Eigen::array<typename tensor_traits<X>::Index, static_cast<std::size_t>(rank_of<X>)> dimensions;
  const auto shape = shape_of(x);
  for (std::size_t i = 0; i < shape.size(); ++i) {
    dimensions[i] = static_cast<typename tensor_traits<X>::Index>(shape[i]);
  }
  return tensor_like<X>(dimensions);
}

/// The tensor itself where its elements lie in memory, else its value, computed on the caller's threads if it has some.
template <class Device, class X>
decltype(auto) evaluated(const Device& device, const X& x) {
  if constexpr (has_storage<X>) {
    return (x);
  } else {
    tensor_like<X> value;
    evaluate(device, x, value);
    return value;
  }
}

template <class T>
bool overlap(const T* a, const T* b, Index size) {
  const auto first = reinterpret_cast<std::uintptr_t>(a), second = reinterpret_cast<std::uintptr_t>(b);
  const auto bytes = static_cast<std::uintptr_t>(size) * sizeof(T);
  return first < second + bytes && second < first + bytes;
}

/// An output must be the input's memory exactly, for work in place, or apart from it.
template <class T>
void check_overlap(const char* input_name, const T* input, const char* output_name, const T* output, Index size) {
  require(input == output || !overlap(input, output, size), "expected ", output_name, " to be ", input_name,
          " itself or memory apart from it, got memory that begins ",
          (reinterpret_cast<std::intptr_t>(output) - reinterpret_cast<std::intptr_t>(input)), " bytes from that of ",
          input_name);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_TENSOR_HPP
