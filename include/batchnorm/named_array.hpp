// Arrays as files hold them: a name, a type of elements, a shape, and bytes.

#ifndef BATCHNORM_NAMED_ARRAY_HPP
#define BATCHNORM_NAMED_ARRAY_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "batchnorm/detail/files/objects.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// An array of numbers as a value, free of C++ types and of formats of files: what a StateDict is made of.
///
///     const auto array = batchnorm::NamedArray::of("fc.weight", W);  // an Eigen matrix, [rows, columns]
///     const Eigen::MatrixXf copy = array.as<Eigen::MatrixXf>();
struct NamedArray {
  /// What it is called, as "net.bn1.weight".
  std::string name{};
  /// The type of its elements.
  DType dtype = DType::float32;
  /// The number of elements along each axis; empty for a single number, which has no axis.
  std::vector<std::int64_t> shape{};
  /// The elements in this machine's order of bytes, the last axis running fastest, whatever the storage order of what
  /// they came from.
  std::vector<std::byte> bytes{};

  /// A copy of an Eigen tensor, matrix, array or vector, of an expression of one, or of a single number. A matrix has
  /// two axes, [rows, columns], and what is a vector at compile time one.
  template <class X>
  static NamedArray of(std::string name, const X& values) {
    NamedArray result;
    result.name = std::move(name);
    if constexpr (detail::is_tensor<X> || detail::is_dense<X>) {
      const auto& evaluated = detail::evaluated(Eigen::DefaultDevice(), values);
      using T = detail::scalar_of<X>;
      result.copy(detail::strided<const T>(evaluated, true));
    } else {
      result.copy(detail::Strided<const X>{&values, {}, {}});
    }
    return result;
  }

  /// The array as an `Object`: an Eigen::Tensor, or a Matrix or Array of Eigen's, with as many axes as the array has,
  /// or a single number where it has none. Floating-point numbers of one type become those of another, rounded to the
  /// nearest with ties to even, and infinite beyond its range. Integers become other integers, if all of them fit.
  /// Throws std::invalid_argument for another shape, and for numbers of another kind.
  template <class Object>
  Object as() const {
    check();
    using Target = detail::ArrayTarget<Object>;
    Object result{};
    Target::resize(name, result, shape);
    const auto elements = Target::elements(result);
    detail::Walk walk(elements);
    detail::read_elements<typename Target::Scalar>(name, dtype, bytes.data(), size(), [&](const auto& value) {
      elements.data[walk.offset()] = value;
      walk.next();
    });
    return result;
  }

  /// The number of elements that the shape stands for.
  std::int64_t size() const {
    std::int64_t result = 1;
    for (const std::int64_t extent : shape) result *= extent;
    return result;
  }

  /// Throws std::invalid_argument unless the bytes are those of an array of this shape.
  void check() const {
    std::int64_t expected = 0;
    detail::require(detail::byte_count(dtype, shape, expected), "expected array ", detail::in_quotes(name),
                    " of a shape that memory can hold, got ", detail::shape_text(shape));
    detail::require(static_cast<std::uint64_t>(expected) == bytes.size(), "expected ", expected, " bytes in array ",
                    detail::in_quotes(name), " of ", dtype, " in shape ", detail::shape_text(shape), ", got ",
                    bytes.size());
  }

  /// Whether two arrays are the same, bit by bit.
  friend bool operator==(const NamedArray& a, const NamedArray& b) {
    return a.name == b.name && a.dtype == b.dtype && a.shape == b.shape && a.bytes == b.bytes;
  }
  /// Whether they are not.
  friend bool operator!=(const NamedArray& a, const NamedArray& b) { return !(a == b); }

 private:
  template <class T>
  void copy(const detail::Strided<const T>& elements) {
    dtype = dtype_of<T>;
    shape = elements.shape;
    const auto count = elements.size();
    bytes.resize(static_cast<std::size_t>(count) * sizeof(T));
    detail::Walk walk(elements);
    std::byte* to = bytes.data();
    for (std::int64_t i = 0; i < count; ++i, walk.next()) detail::append_element(elements.data[walk.offset()], to);
  }
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_NAMED_ARRAY_HPP
