// The values of all channels as people hold them, and the errors that say what is wrong with them. Like all of this
// folder it needs C++14 and Eigen/Core alone: no tensors and no streams.

#ifndef BATCHNORM_DETAIL_FROZEN_RANGES_HPP
#define BATCHNORM_DETAIL_FROZEN_RANGES_HPP

#include <Eigen/Core>

#include <cstddef>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/config.hpp"
#if !BATCHNORM_EXCEPTIONS
#include <cstdlib>
#endif

BATCHNORM_NAMESPACE_BEGIN
namespace detail {
namespace frozen {

/// Sizes and offsets, of 64 bits also where Eigen is told to index by fewer.
using Index = std::ptrdiff_t;

// --- Errors.

inline void append(std::string& message, const char* text) { message += text; }
inline void append(std::string& message, Index number) { message += std::to_string(number); }
inline void append(std::string& message, double number) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", number);
  message += text;
}

/// Throws std::invalid_argument with a message of "batchnorm: " and then the parts; where exceptions are disabled,
/// writes it to stderr and aborts.
template <class... Parts>
[[noreturn]] BATCHNORM_NOINLINE void fail(const Parts&... parts) {
  std::string message("batchnorm: ");
  const int in_order[] = {(append(message, parts), 0)...};
  static_cast<void>(in_order);
#if BATCHNORM_EXCEPTIONS
  throw std::invalid_argument(message);
#else
  std::fprintf(stderr, "%s\n", message.c_str());
  std::abort();
#endif
}

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) fail(parts...);
}

// --- Scalars.

template <class T>
struct is_16_bit
    : std::integral_constant<bool, std::is_same<T, Eigen::half>::value || std::is_same<T, Eigen::bfloat16>::value> {};

/// The type of the per-channel algebra for data of T: double for float, double and the 16-bit types, else T itself.
template <class T>
using accumulator_t =
    std::conditional_t<std::is_same<T, float>::value || is_16_bit<T>::value, double, std::remove_cv_t<T>>;

/// The type of folded coefficients: float for the 16-bit types, else T.
template <class T>
using param_t = std::conditional_t<is_16_bit<T>::value, float, T>;

/// A number as one of another type. Eigen's 16-bit types convert to and from float alone.
template <class To, class From, std::enable_if_t<!is_16_bit<To>::value && !is_16_bit<From>::value, int> = 0>
BATCHNORM_ALWAYS_INLINE To convert(const From& value) {
  return static_cast<To>(value);
}
template <class To, class From, std::enable_if_t<!is_16_bit<To>::value && is_16_bit<From>::value, int> = 0>
BATCHNORM_ALWAYS_INLINE To convert(const From& value) {
  return static_cast<To>(static_cast<float>(value));
}
template <class To, class From, std::enable_if_t<is_16_bit<To>::value, int> = 0>
BATCHNORM_ALWAYS_INLINE To convert(const From& value) {
  return To(static_cast<float>(value));
}

// --- Ranges.

// Derived from Eigen's DenseBase, told by a conversion of pointers, which asks nothing of a type that is not.
template <class Derived>
std::true_type derives_from_dense(const Eigen::DenseBase<Derived>*);
std::false_type derives_from_dense(...);
template <class X>
struct is_dense : decltype(derives_from_dense(std::declval<std::decay_t<X>*>())) {};

template <class X, class = void>
struct has_data_and_size : std::false_type {};
template <class X>
struct has_data_and_size<X, decltype(static_cast<void>(*std::declval<const X&>().data()),
                                     static_cast<void>(std::declval<const X&>().size()))> : std::true_type {};

// The rank of an Eigen tensor, 0 of anything else.
template <class X, class = void>
struct rank_of : std::integral_constant<int, 0> {};
template <class X>
struct rank_of<X, decltype(static_cast<void>(X::NumDimensions))> : std::integral_constant<int, X::NumDimensions> {};

enum class RangeKind { dense, memory, array, pointer, tensor, other };

template <class X>
constexpr RangeKind range_kind() {
  return is_dense<X>::value            ? RangeKind::dense
         : std::is_array<X>::value     ? RangeKind::array
         : std::is_pointer<X>::value   ? RangeKind::pointer
         : (rank_of<X>::value > 1)     ? RangeKind::tensor
         : has_data_and_size<X>::value ? RangeKind::memory
                                       : RangeKind::other;
}

/// Calls `use(data, size)` with the values of a range.
template <class X, RangeKind = range_kind<X>()>
struct Range {
  template <class Use>
  static void read(const char*, const X&, const Use&) {
    static_assert(range_kind<X>() != RangeKind::pointer,
                  "batchnorm: a pointer does not say how many values there are: write "
                  "Eigen::Map<const Eigen::VectorXf>(pointer, size)");
    static_assert(range_kind<X>() != RangeKind::tensor,
                  "batchnorm: expected a tensor of rank 1, a value for each channel");
    static_assert(
        range_kind<X>() != RangeKind::other,
        "batchnorm: expected the values of all channels as something with data() and size(), such as a "
        "std::vector, a std::array or an Eigen::Tensor of rank 1, or as an Eigen vector or an expression of one");
  }
};

template <class X>
struct Range<X, RangeKind::memory> {
  template <class Use>
  static void read(const char*, const X& values, const Use& use) {
    use(values.data(), static_cast<Index>(values.size()));
  }
};

template <class X>
struct Range<X, RangeKind::array> {
  template <class Use>
  static void read(const char*, const X& values, const Use& use) {
    use(&values[0], static_cast<Index>(std::extent<X>::value));
  }
};

template <class X>
struct Range<X, RangeKind::dense> {
  template <class Use>
  static void read(const char* name, const X& values, const Use& use) {
    const auto rows = static_cast<Index>(values.rows()), cols = static_cast<Index>(values.cols());
    require(rows * cols == 0 || rows == 1 || cols == 1, "expected ", name, " as a vector, got a matrix of ", rows,
            " rows and ", cols, " columns");
    const auto& evaluated = values.eval();  // which is `values` itself if that is a vector, else a vector like it
    use(evaluated.data(), static_cast<Index>(evaluated.size()));
  }
};

template <class X>
Index size_of(const char* name, const X& values) {
  Index result = 0;
  Range<X>::read(name, values, [&](const auto*, Index size) { result = size; });
  return result;
}

}  // namespace frozen
}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FROZEN_RANGES_HPP
