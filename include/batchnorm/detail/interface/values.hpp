// One number per channel, from what people hold them in: Eigen's vectors and tensors, containers and spans.

#ifndef BATCHNORM_DETAIL_INTERFACE_VALUES_HPP
#define BATCHNORM_DETAIL_INTERFACE_VALUES_HPP

#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/interface/checks.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// A number of Eigen's 16-bit types converts to and from float alone.
template <class To, class From>
To value_as(const From& value) {
  if constexpr (std::is_same_v<From, Eigen::half> || std::is_same_v<From, Eigen::bfloat16>) {
    return static_cast<To>(static_cast<float>(value));
  } else {
    return static_cast<To>(value);
  }
}

template <class To, class From>
inline constexpr bool is_value_as = std::is_constructible_v<To, const From&> || std::is_same_v<From, Eigen::half> ||
                                    std::is_same_v<From, Eigen::bfloat16>;

/// The check of a type of values, which says one thing: whether they are a vector of numbers that can be made `To`.
template <class To, class Values>
constexpr bool check_values_type() {
  if constexpr (is_tensor<Values>) {
    static_assert(rank_of<Values> == 1, "batchnorm: expected one value per channel, in a tensor of rank 1");
    static_assert(!is_complex<scalar_of<Values>>, "batchnorm: expected one real number per channel, got complex ones");
    return rank_of<Values> == 1 && !is_complex<scalar_of<Values>>;
  } else if constexpr (is_dense<Values>) {
    constexpr bool complex = is_complex<typename Values::Scalar>;
    static_assert(!complex, "batchnorm: expected one real number per channel, got complex ones");
    return !complex;
  } else {
    constexpr bool is_pointer = std::is_pointer_v<Values>;
    static_assert(!is_pointer,
                  "batchnorm: a pointer does not tell how many values it points to: hand in "
                  "Eigen::Map<const Eigen::VectorXf>(pointer, channels), or VectorXd for double");
    using Element = typename decltype(element_of<Values>())::type;
    constexpr bool is_range = !std::is_void_v<Element>;
    static_assert(
        is_pointer || is_range,
        "batchnorm: expected one value per channel, in an Eigen vector or tensor of rank 1, a std::vector, or "
        "anything with begin() and end() or with data() and size(); for the same value in every channel write "
        "weight().setConstant(value), and likewise for the other vectors");
    if constexpr (is_range && !is_pointer) {
      static_assert(is_value_as<To, Element>,
                    "batchnorm: expected one value per channel, got elements that are no real numbers");
      return is_value_as<To, Element>;
    } else {
      return false;
    }
  }
}

/// The values, each as a `To`, in memory of their own: whatever they are computed from may be overwritten by them.
template <class To, class Values>
std::vector<To> copied_values(const char* name, const Values& values) {
  std::vector<To> result;
  if constexpr (is_tensor<Values>) {
    const auto& tensor = evaluated(Eigen::DefaultDevice(), values);
    const auto* const data = tensor.data();
    for (Index i = 0; i < static_cast<Index>(tensor.size()); ++i) result.push_back(value_as<To>(data[i]));
  } else if constexpr (is_dense<Values>) {
    require(values.rows() == 1 || values.cols() == 1 || values.size() == 0, "expected ", name, " in a vector, got ",
            values.rows(), " rows and ", values.cols(), " columns");
    const typename Values::PlainObject dense(values);
    for (Eigen::Index i = 0; i < dense.size(); ++i) result.push_back(value_as<To>(dense.data()[i]));
  } else if constexpr (has_begin_and_end<const Values>) {
    for (auto&& value : values) {
      result.push_back(value_as<To>(static_cast<typename decltype(element_of<Values>())::type>(value)));
    }
  } else {
    const auto* const data = values.data();
    for (Index i = 0; i < static_cast<Index>(values.size()); ++i) result.push_back(value_as<To>(data[i]));
  }
  return result;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_INTERFACE_VALUES_HPP
