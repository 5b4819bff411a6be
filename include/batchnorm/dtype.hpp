// The types of elements that files of arrays know.

#ifndef BATCHNORM_DTYPE_HPP
#define BATCHNORM_DTYPE_HPP

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <type_traits>

#include "batchnorm/detail/interface/kinds.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// The type of the elements of an array in a file, by NumPy's and PyTorch's names for it.
enum class DType : unsigned char {
  boolean,      ///< one byte, 0 or 1
  int8,         ///< a signed integer of 8 bits
  uint8,        ///< an unsigned integer of 8 bits
  int16,        ///< a signed integer of 16 bits
  uint16,       ///< an unsigned integer of 16 bits
  int32,        ///< a signed integer of 32 bits
  uint32,       ///< an unsigned integer of 32 bits
  int64,        ///< a signed integer of 64 bits
  uint64,       ///< an unsigned integer of 64 bits
  float8_e4m3,  ///< a floating-point number of 8 bits, which is carried along and not computed with
  float8_e5m2,  ///< a floating-point number of 8 bits, which is carried along and not computed with
  float16,      ///< Eigen::half
  bfloat16,     ///< Eigen::bfloat16
  float32,      ///< float
  float64,      ///< double
};

/// How many bytes an element takes.
constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::boolean:
    case DType::int8:
    case DType::uint8:
    case DType::float8_e4m3:
    case DType::float8_e5m2:
      return 1;
    case DType::int16:
    case DType::uint16:
    case DType::float16:
    case DType::bfloat16:
      return 2;
    case DType::int32:
    case DType::uint32:
    case DType::float32:
      return 4;
    case DType::int64:
    case DType::uint64:
    case DType::float64:
      return 8;
  }
  return 1;
}

/// The name, as "float32".
constexpr const char* name_of(DType dtype) {
  constexpr const char* names[] = {"boolean",     "int8",    "uint8",    "int16",   "uint16",
                                   "int32",       "uint32",  "int64",    "uint64",  "float8_e4m3",
                                   "float8_e5m2", "float16", "bfloat16", "float32", "float64"};
  return names[static_cast<std::size_t>(dtype)];
}

/// Writes the name.
inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

namespace detail {

template <class T>
constexpr bool is_16_bit_float = std::is_same_v<T, Eigen::half> || std::is_same_v<T, Eigen::bfloat16>;

/// Whether there is a dtype for numbers of T.
template <class T>
constexpr bool has_dtype = (std::is_integral_v<T> && sizeof(T) <= 8) || std::is_same_v<T, float> ||
                           std::is_same_v<T, double> || is_16_bit_float<T>;

template <class T>
constexpr DType find_dtype() {
  static_assert(
      has_dtype<T>,
      "batchnorm: arrays of files are of integers, float, double, Eigen::half or Eigen::bfloat16: cast to one of "
      "these");
  if constexpr (std::is_same_v<T, bool>) {
    return DType::boolean;
  } else if constexpr (std::is_integral_v<T>) {
    constexpr DType types[] = {DType::int8,  DType::uint8,  DType::int16, DType::uint16,
                               DType::int32, DType::uint32, DType::int64, DType::uint64};
    constexpr int log2 = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return types[2 * log2 + (std::is_unsigned_v<T> ? 1 : 0)];
  } else if constexpr (std::is_same_v<T, Eigen::half>) {
    return DType::float16;
  } else if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    return DType::bfloat16;
  } else {
    return std::is_same_v<T, double> ? DType::float64 : DType::float32;
  }
}

}  // namespace detail

/// The dtype of numbers of T: bool, an integer, float, double, Eigen::half or Eigen::bfloat16.
template <class T>
inline constexpr DType dtype_of = detail::find_dtype<T>();

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DTYPE_HPP
