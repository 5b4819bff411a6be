// What people hand in where the library asks for tensors or vectors, told apart by type, and their numbers.

#ifndef BATCHNORM_DETAIL_INTERFACE_KINDS_HPP
#define BATCHNORM_DETAIL_INTERFACE_KINDS_HPP

#include <iterator>
#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/eigen.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

template <class X>
using plain = std::remove_cv_t<std::remove_reference_t<X>>;

template <class Derived>
std::true_type derives_from_tensor(const Eigen::TensorBase<Derived, Eigen::ReadOnlyAccessors>*);
std::false_type derives_from_tensor(...);

/// Any tensor expression, a tensor itself included.
template <class X>
inline constexpr bool is_tensor = decltype(derives_from_tensor(std::declval<plain<X>*>()))::value;

template <class Derived>
std::true_type derives_from_dense(const Eigen::DenseBase<Derived>*);
std::false_type derives_from_dense(...);

/// A matrix or array of Eigen's, or an expression of them.
template <class X>
inline constexpr bool is_dense = decltype(derives_from_dense(std::declval<plain<X>*>()))::value;

/// What may be the bias of a map, and the axes of its weight.
template <class X>
using if_bias = std::enable_if_t<is_tensor<X> || is_dense<X>, int>;
template <class X>
using if_axes = std::enable_if_t<!is_tensor<X> && !is_dense<X>, int>;

template <class X, class = void>
inline constexpr bool has_begin_and_end = false;
template <class X>
inline constexpr bool has_begin_and_end<
    X, std::void_t<decltype(*std::begin(std::declval<X&>())), decltype(std::end(std::declval<X&>()))>> = true;

template <class X, class = void>
inline constexpr bool has_data_and_size = false;
template <class X>
inline constexpr bool has_data_and_size<
    X,
    std::void_t<decltype(*std::declval<X&>().data()), decltype(static_cast<Eigen::Index>(std::declval<X&>().size()))>> =
    true;

/// The type of the elements of what has a beginning and an end, or data and a size; void for anything else.
template <class X>
auto element_of() {
  if constexpr (has_begin_and_end<const X>) {
    return std::enable_if<true, std::decay_t<decltype(*std::begin(std::declval<const X&>()))>>();
  } else if constexpr (has_data_and_size<const X>) {
    return std::enable_if<true, std::decay_t<decltype(*std::declval<const X&>().data())>>();
  } else {
    return std::enable_if<true, void>();
  }
}

/// A container or span whose numbers lie one after another in memory, which a tensor can be mapped onto.
template <class X>
constexpr bool holds_numbers() {
  if constexpr (has_data_and_size<const X>) {
    using Element = std::decay_t<decltype(*std::declval<const X&>().data())>;
    return std::is_arithmetic_v<Element> || std::is_same_v<Element, Eigen::half> ||
           std::is_same_v<Element, Eigen::bfloat16>;
  } else {
    return false;
  }
}
template <class X>
inline constexpr bool has_numbers_in_memory = holds_numbers<X>();

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

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_KINDS_HPP
