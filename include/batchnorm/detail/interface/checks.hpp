// What is wrong with the types, shapes and memory of a call's tensors, said in one sentence.

#ifndef BATCHNORM_DETAIL_INTERFACE_CHECKS_HPP
#define BATCHNORM_DETAIL_INTERFACE_CHECKS_HPP

#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// Whether a Y, as it was deduced for a forwarding reference, can be written to. What is written to a temporary that
// owns its memory would be lost.
template <class Y>
constexpr bool is_writable() {
  using Reference = std::remove_reference_t<Y>;
  if constexpr (std::is_same_v<plain<Y>, tensor_like<Y>> && !std::is_lvalue_reference_v<Y>) {
    return false;
  } else if constexpr (is_dense<Y>) {
    return Eigen::internal::is_lvalue<Reference>::value;
  } else {
    return !std::is_const_v<std::remove_pointer_t<decltype(std::declval<Reference&>().data())>>;
  }
}

/// Whether a matrix can be a result: what it has between the elements of a column, or of a row where it is row-major,
/// can be nothing.
template <class Y>
inline constexpr bool can_be_result = has_storage<plain<Y>> || may_have_storage<plain<Y>>;

// The checks of types say one thing and are false where it is wrong, so that nothing more is compiled of the call.

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
  if constexpr (is_dense<X>) {
    static_assert(
        !is_dense<X>,
        "batchnorm: a matrix has 2 axes, and the layer's tensors have another number of them (Dims): write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 4>>(matrix.data(), n, c, h, w), with your scalar, rank "
        "and sizes, and Tensor<float, 4, Eigen::RowMajor> if the matrix is row-major, or use a layer of rank 2");
  } else if constexpr (is_pointer && Dims == 2) {
    static_assert(
        !is_pointer,
        "batchnorm: a pointer does not tell the shape of what it points to: write "
        "Eigen::Map<const Eigen::MatrixXf>(pointer, n, c), with your scalar and sizes and without the const for a "
        "result, or a Map of Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> where a sample's "
        "values lie one after another");
  } else if constexpr (is_pointer) {
    static_assert(!is_pointer,
                  "batchnorm: a pointer does not tell the shape of what it points to: write "
                  "Eigen::TensorMap<const Eigen::Tensor<float, 4, Eigen::RowMajor>>(pointer, n, c, h, w), with your "
                  "scalar, rank and sizes, and without the const for a result");
  } else if constexpr (has_numbers_in_memory<X> && Dims == 2) {
    static_assert(
        !has_numbers_in_memory<X>,
        "batchnorm: a container does not tell the shape of a matrix: write "
        "Eigen::Map<const Eigen::MatrixXf>(values.data(), n, c), with your scalar and sizes and without the const for "
        "a result, or a Map of Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> where a sample's "
        "values lie one after another");
  } else if constexpr (has_numbers_in_memory<X>) {
    static_assert(
        !has_numbers_in_memory<X>,
        "batchnorm: a container does not tell the shape of a tensor: write "
        "Eigen::TensorMap<const Eigen::Tensor<float, 4, Eigen::RowMajor>>(values.data(), n, c, h, w), with your "
        "scalar, rank and sizes, and without the const for a result");
  } else {
    static_assert(is_tensor<X>,
                  "batchnorm: expected an Eigen tensor: a Tensor, TensorFixedSize, TensorMap or an expression of them, "
                  "or for a layer of rank 2 a matrix or array; the values of anything else have to be copied into one");
  }
}

/// Whether X can be read as a tensor of rank Dims: a tensor, or where Dims is 2 a matrix or array.
template <int Dims, class X>
inline constexpr bool is_input = is_tensor<X> || (is_dense<X> && Dims == 2);

template <class T, int Dims, class X>
constexpr bool check_input_type() {
  if constexpr (!is_input<Dims, X>) fail_for_no_tensor<Dims, X>();
  if constexpr (is_input<Dims, X>) {
    constexpr bool same_rank = rank_of<X> == Dims, same_scalar = std::is_same_v<scalar_of<X>, T>;
    static_assert(same_rank, "batchnorm: the rank of the tensor differs from the layer's Dims");
    static_assert(
        !same_rank || same_scalar,
        "batchnorm: the scalar type of the tensor or matrix differs from the layer's T: use x.cast<T>(), or a "
        "layer of that type");
    return same_rank && same_scalar;
  } else {
    return false;
  }
}

/// Whether two tensors are laid out alike, or either is a vector, of which there is one way.
template <class X, class Y>
inline constexpr bool same_layout = layout_of<X> == layout_of<Y> || is_vector<X> || is_vector<Y>;

// Y as it was deduced for a forwarding reference.
template <class X, class Y>
constexpr bool check_output_type() {
  constexpr bool any = is_tensor<Y> || is_dense<Y>, same_kind = !any || is_dense<X> == is_dense<Y>;
  static_assert(same_kind,
                "batchnorm: input and result are to be both tensors, or both matrices (or arrays): write an Eigen::Map "
                "or an Eigen::TensorMap of one of them");
  constexpr bool stored = any && same_kind && can_be_result<Y>;
  static_assert(
      !same_kind || any || !is_dense<X>,
      "batchnorm: the result can only be written to a matrix or array of Eigen's, a block or a map; for a "
      "pointer or a container's memory write Eigen::Map<Eigen::MatrixXf>(pointer, n, c), with your scalar and "
      "sizes");
  static_assert(
      !same_kind || stored || is_dense<Y> || is_dense<X>,
      "batchnorm: the result can only be written to a Tensor, TensorFixedSize or TensorMap; for a pointer or a "
      "container's memory write Eigen::TensorMap<Eigen::Tensor<float, 4, Eigen::RowMajor>>(pointer, n, c, h, w), "
      "with your scalar, rank and sizes");
  static_assert(
      !same_kind || stored || !is_dense<Y>,
      "batchnorm: the result can only be written to a matrix, array, map, block or Ref whose columns, or rows "
      "if it is row-major, lie in memory without gaps");
  if constexpr (stored) {
    constexpr bool writable = is_writable<Y>(), same_rank = rank_of<Y> == rank_of<X>;
    constexpr bool same_scalar = std::is_same_v<scalar_of<Y>, scalar_of<X>>;
    static_assert(writable, "batchnorm: the result cannot be written to a constant or temporary tensor or matrix");
    static_assert(!writable || same_rank, "batchnorm: the rank of the result differs from the input's");
    static_assert(!(writable && same_rank) || same_scalar,
                  "batchnorm: the scalar type of the result differs from the input's");
    static_assert(!(writable && same_rank && same_scalar) || same_layout<X, Y>,
                  "batchnorm: the layout of the result differs from the input's (RowMajor or ColMajor)");
    return writable && same_rank && same_scalar && same_layout<X, Y>;
  } else {
    return false;
  }
}

template <class X, class Dy>
constexpr bool check_gradient_type() {
  constexpr bool same_kind = is_dense<X> == is_dense<Dy>;
  static_assert(same_kind,
                "batchnorm: x and dy are to be both tensors, or both matrices (or arrays): write an Eigen::Map or an "
                "Eigen::TensorMap of one of them");
  static_assert(!same_kind || same_layout<X, Dy>,
                "batchnorm: the layout of dy differs from that of x (RowMajor or ColMajor)");
  return same_kind && same_layout<X, Dy>;
}

/// Of a residual, or of the output that backward is handed.
template <class X, class R>
constexpr bool check_companion_type() {
  constexpr bool same_kind = is_dense<X> == is_dense<R>;
  static_assert(
      same_kind,
      "batchnorm: x and the residual or output are to be both tensors, or both matrices (or arrays): write an "
      "Eigen::Map or an Eigen::TensorMap of one of them");
  static_assert(!same_kind || same_layout<X, R>,
                "batchnorm: the layout of the residual or output differs from that of x (RowMajor or ColMajor)");
  return same_kind && same_layout<X, R>;
}

/// What an error message adds where another axis has as many elements as there are channels: what names it, the
/// layer's option or an argument of Moments::add.
/// Axis 0 is told of for rank 2 alone, where samples may lie in columns; else it is the samples'.
template <class Shape>
struct OtherAxisText {
  const Shape& shape;
  Index channels;
  int axis;
  bool is_option;

  friend std::ostream& operator<<(std::ostream& out, const OtherAxisText& text) {
    const int rank = static_cast<int>(text.shape.size()), last = rank - 1;
    const auto fits = [&](int other) {
      return other != text.axis && text.shape[static_cast<std::size_t>(other)] == text.channels;
    };
    if (fits(last)) {
      text.write(out << "; the last axis", -1);
    } else if (const int other = rank == 2 ? 0 : 1; fits(other)) {
      text.write(out << "; axis " << other, other);
    }
    return out;
  }

 private:
  void write(std::ostream& out, int other) const {
    out << " has " << channels << ": ";
    if (is_option) {
      out << "BatchNormOptions(" << channels << ").channel_axis(" << other << ")";
    } else {
      out << "add(x, " << other << ")";
    }
  }
};

/// The view of a result, whose elements must be one each.
template <class T, class Y>
TensorView<T, rank_of<Y>> view_output(const char* name, Y& y, int axis) {
  const auto result = view_tensor<T>(y, axis);
  if constexpr (is_dense<Y> && !is_vector<Y>) {
    require(y.innerStride() == 1, "expected ", name, " with its ", Y::IsRowMajor ? "rows" : "columns",
            " in memory without gaps, got an inner stride of ", y.innerStride());
    require(y.outerSize() <= 1 || y.outerStride() >= y.innerSize(), "expected ", name,
            " with an outer stride of at least ", y.innerSize(), ", got ", y.outerStride());
  }
  return result;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_CHECKS_HPP
