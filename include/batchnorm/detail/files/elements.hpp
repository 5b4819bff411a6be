// The elements of arrays: how many bytes they take, their order of bytes, and numbers of one type as those of another.

#ifndef BATCHNORM_DETAIL_FILES_ELEMENTS_HPP
#define BATCHNORM_DETAIL_FILES_ELEMENTS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "batchnorm/detail/interface/error.hpp"
#include "batchnorm/dtype.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A name in an error message. What comes from a file may be long, or no text at all.
inline std::string in_quotes(const std::string& name) {
  constexpr std::size_t most = 100;
  std::string result = "\"";
  for (std::size_t i = 0; i < name.size() && i < most; ++i) {
    const auto byte = static_cast<unsigned char>(name[i]);
    result += byte < 0x20 || byte == 0x7f ? '?' : name[i];
  }
  return result + (name.size() > most ? "...\"" : "\"");
}

/// How many bytes an array takes. False where an extent is negative, or they are more than 63 bits can count.
inline bool byte_count(DType dtype, const std::vector<std::int64_t>& shape, std::int64_t& result) {
  constexpr std::int64_t most = (std::numeric_limits<std::int64_t>::max)();
  bool empty = false, fits = true;
  for (const std::int64_t extent : shape) {
    fits = fits && extent >= 0;
    empty = empty || extent == 0;
  }
  result = static_cast<std::int64_t>(size_of(dtype));
  for (const std::int64_t extent : shape) {
    if (!fits || extent <= 0) continue;
    fits = result <= most / extent;
    if (fits) result *= extent;
  }
  if (empty) result = 0;
  return fits;
}

inline bool is_little_endian() {
  const std::uint16_t one = 1;
  unsigned char first = 0;
  std::memcpy(&first, &one, 1);
  return first == 1;
}

/// Turns elements from one order of bytes to the other.
inline void swap_bytes(DType dtype, std::byte* bytes, std::size_t size) {
  const std::size_t element = size_of(dtype);
  if (element == 1) return;
  for (std::size_t i = 0; i + element <= size; i += element) std::reverse(bytes + i, bytes + i + element);
}

/// Whether numbers of T are rounded, not counted: floating-point, or any other type of real numbers.
template <class T>
inline constexpr bool is_rounded = !std::is_integral_v<T>;

/// A double as the float between which and it there is no float, with an odd last digit unless it is exact: what is
/// rounded to fewer digits from here is rounded as if from the double.
inline float rounded_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  const auto back = static_cast<double>(nearest);
  if (back == value || !(value == value)) return nearest;
  std::uint32_t bits = 0;
  std::memcpy(&bits, &nearest, sizeof(bits));
  if ((back < 0 ? -back : back) > (value < 0 ? -value : value)) --bits;  // towards 0
  bits |= 1u;
  float result = 0;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

/// A number as one of another type; false where an integer does not fit.
template <class To, class From>
bool convert_element(const From& from, To& to) {
  if constexpr (is_rounded<To>) {
    if constexpr (is_16_bit_float<From>) {
      to = static_cast<To>(static_cast<float>(from));
    } else if constexpr (is_16_bit_float<To> && std::is_same_v<From, double>) {
      to = static_cast<To>(rounded_to_odd(from));
    } else {
      to = static_cast<To>(from);
    }
    return true;
  } else if constexpr (std::is_same_v<From, bool> || std::is_same_v<To, bool>) {
    to = static_cast<To>(from);
    return std::is_same_v<From, To>;
  } else {
    to = static_cast<To>(from);
    return static_cast<From>(to) == from && (to < To(0)) == (from < From(0));
  }
}

template <class T>
struct TypeTag {
  using type = T;
};

/// Calls run(TypeTag<T>) for the C++ type of an array's elements; of 8-bit floats, which have none, false is returned.
template <class Run>
bool with_type_of(DType dtype, const Run& run) {
  switch (dtype) {
    case DType::boolean:
      return run(TypeTag<bool>()), true;
    case DType::int8:
      return run(TypeTag<std::int8_t>()), true;
    case DType::uint8:
      return run(TypeTag<std::uint8_t>()), true;
    case DType::int16:
      return run(TypeTag<std::int16_t>()), true;
    case DType::uint16:
      return run(TypeTag<std::uint16_t>()), true;
    case DType::int32:
      return run(TypeTag<std::int32_t>()), true;
    case DType::uint32:
      return run(TypeTag<std::uint32_t>()), true;
    case DType::int64:
      return run(TypeTag<std::int64_t>()), true;
    case DType::uint64:
      return run(TypeTag<std::uint64_t>()), true;
    case DType::float16:
      return run(TypeTag<Eigen::half>()), true;
    case DType::bfloat16:
      return run(TypeTag<Eigen::bfloat16>()), true;
    case DType::float32:
      return run(TypeTag<float>()), true;
    case DType::float64:
      return run(TypeTag<double>()), true;
    case DType::float8_e4m3:
    case DType::float8_e5m2:
      break;
  }
  return false;
}

template <class T>
T element_at(const std::byte* bytes, std::int64_t i) {
  using Stored = std::conditional_t<std::is_same_v<T, bool>, unsigned char, T>;  // a file's bool may be neither 0 nor 1
  Stored value;
  std::memcpy(&value, bytes + static_cast<std::size_t>(i) * sizeof(Stored), sizeof(Stored));
  if constexpr (std::is_same_v<T, bool>) {
    return value != 0;
  } else {
    return value;
  }
}

/// Calls put(value) with each element as a `To`. Throws std::invalid_argument where its kind is another, or an integer
/// does not fit, which is before the first call in the former case alone.
template <class To, class Put>
void read_elements(const std::string& name, DType dtype, const std::byte* bytes, std::int64_t count, const Put& put) {
  const bool known = with_type_of(dtype, [&](auto tag) {
    using From = typename decltype(tag)::type;
    constexpr bool same_kind =
        is_rounded<To> == is_rounded<From> && std::is_same_v<To, bool> == std::is_same_v<From, bool>;
    if constexpr (same_kind) {
      for (std::int64_t i = 0; i < count; ++i) {
        To value{};
        const bool fits = convert_element(element_at<From>(bytes, i), value);
        require(fits, "expected integers that fit in ", sizeof(To), " bytes in array ", in_quotes(name),
                ", got one that does not, element ", i);
        put(value);
      }
    } else {
      fail<std::invalid_argument>("expected array ", in_quotes(name), " of ",
                                  is_rounded<To>             ? "floating-point numbers"
                                  : std::is_same_v<To, bool> ? "bools"
                                                             : "integers",
                                  ", got ", dtype);
    }
  });
  require(known, "expected array ", in_quotes(name), " of numbers that C++ knows, got ", dtype);
}

/// Writes elements in memory one after another, the last axis running fastest.
template <class T>
void append_element(const T& value, std::byte*& to) {
  std::memcpy(to, &value, sizeof(T));
  to += sizeof(T);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_ELEMENTS_HPP
