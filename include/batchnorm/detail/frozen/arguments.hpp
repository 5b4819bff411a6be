// What FrozenBatchNorm::apply takes besides pointers: dense Eigen objects and Eigen tensors, told by their members, so
// that no header of tensors is needed, and the sentence for everything else.

#ifndef BATCHNORM_DETAIL_FROZEN_ARGUMENTS_HPP
#define BATCHNORM_DETAIL_FROZEN_ARGUMENTS_HPP

#include "batchnorm/detail/frozen/ranges.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
namespace frozen {

enum class ArgumentKind { dense, expression, tensor, other };

template <class X, class = void>
struct lies_in_memory : std::false_type {};
template <class X>
struct lies_in_memory<X, decltype(static_cast<void>(*std::declval<const X&>().data()))> : std::true_type {};

// The pointers that a tensor gives away tell it from an expression.
template <class X, bool = is_dense<X>::value>
    struct argument_kind : std::integral_constant < ArgumentKind,
    rank_of<X>::value<1                          ? ArgumentKind::other
                      : lies_in_memory<X>::value ? ArgumentKind::tensor
                                                 : ArgumentKind::expression> {};
template <class X>
struct argument_kind<X, true>
    : std::integral_constant<ArgumentKind, (static_cast<unsigned>(X::Flags) & Eigen::DirectAccessBit) != 0
                                               ? ArgumentKind::dense
                                               : ArgumentKind::expression> {};

// Whether a Y, as it was deduced for a forwarding reference, can be written to. What is written to a temporary that
// owns its memory would be lost. (Of tensors those own it which can be made of nothing.)
template <class Y, ArgumentKind = argument_kind<std::decay_t<Y>>::value>
struct is_writable : std::false_type {};
template <class Y>
struct is_writable<Y, ArgumentKind::dense>
    : std::integral_constant<bool, Eigen::internal::is_lvalue<std::remove_reference_t<Y>>::value &&
                                       (std::is_lvalue_reference<Y>::value ||
                                        !std::is_same<std::decay_t<Y>, typename std::decay_t<Y>::PlainObject>::value)> {
};
template <class Y>
struct is_writable<Y, ArgumentKind::tensor>
    : std::integral_constant<
          bool,
          !std::is_const<std::remove_pointer_t<decltype(std::declval<std::remove_reference_t<Y>&>().data())>>::value &&
              (std::is_lvalue_reference<Y>::value || !std::is_default_constructible<std::decay_t<Y>>::value)> {};

template <class X, ArgumentKind = argument_kind<X>::value>
struct is_row_major : std::false_type {};
template <class X>
struct is_row_major<X, ArgumentKind::dense> : std::integral_constant<bool, X::IsRowMajor> {};
template <class X>
struct is_row_major<X, ArgumentKind::tensor>
    : std::integral_constant<bool, static_cast<int>(X::Layout) == static_cast<int>(Eigen::RowMajor)> {};

template <class X, ArgumentKind = argument_kind<X>::value>
struct is_vector : std::integral_constant<bool, rank_of<X>::value == 1> {};
template <class X>
struct is_vector<X, ArgumentKind::dense> : std::integral_constant<bool, X::IsVectorAtCompileTime> {};

template <class X, bool = argument_kind<X>::value == ArgumentKind::other>
struct scalar_of {
  using type = void;
};
template <class X>
struct scalar_of<X, false> {
  using type = std::remove_const_t<typename X::Scalar>;
};

/// Says one thing where a call apply(x, y) cannot be compiled, and is that kind of arguments where it can.
template <class T, class X, class Y>
constexpr ArgumentKind check_arguments() {
  using PlainY = std::decay_t<Y>;
  constexpr ArgumentKind kind = argument_kind<X>::value, y_kind = argument_kind<PlainY>::value;
  constexpr bool known = kind != ArgumentKind::other && y_kind != ArgumentKind::other;
  constexpr bool stored = kind != ArgumentKind::expression;
  constexpr bool writable = is_writable<Y>::value;
  constexpr bool same_kind = kind == y_kind && rank_of<X>::value == rank_of<PlainY>::value;
  constexpr bool same_scalar =
      std::is_same<typename scalar_of<X>::type, T>::value && std::is_same<typename scalar_of<PlainY>::type, T>::value;
  constexpr bool same_order =
      is_row_major<X>::value == is_row_major<PlainY>::value || (is_vector<X>::value && is_vector<PlainY>::value);
  static_assert(known,
                "batchnorm: apply takes pointers to FrozenBatchNorm's scalar, dense Eigen objects (Matrix, Array, Map, "
                "Ref, Block) or Eigen tensors (Tensor, TensorFixedSize, TensorMap)");
  static_assert(
      !known || stored,
      "batchnorm: apply reads x from memory, where an expression is not: write its value to a matrix or tensor first, "
      "y = expression, and then apply(y, y)");
  static_assert(!(known && stored) || writable,
                "batchnorm: the result of apply cannot be written to a constant, a temporary or an expression");
  static_assert(!(known && stored && writable) || same_kind,
                "batchnorm: apply takes x and y both as dense Eigen objects, or both as tensors of the same rank");
  static_assert(!(known && stored && writable && same_kind) || same_scalar,
                "batchnorm: the scalar type of x or y differs from that of FrozenBatchNorm");
  static_assert(!(known && stored && writable && same_kind && same_scalar) || same_order,
                "batchnorm: the storage order of y differs from that of x (RowMajor or ColMajor)");
  return known && stored && writable && same_kind && same_scalar && same_order ? kind : ArgumentKind::other;
}

}  // namespace frozen
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FROZEN_ARGUMENTS_HPP
