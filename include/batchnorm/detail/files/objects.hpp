// What an array of a file becomes: a tensor, a matrix or a number.

#ifndef BATCHNORM_DETAIL_FILES_OBJECTS_HPP
#define BATCHNORM_DETAIL_FILES_OBJECTS_HPP

#include <string>
#include <vector>

#include "batchnorm/detail/files/elements.hpp"
#include "batchnorm/detail/interface/strided.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

inline void check_rank(const std::string& name, std::size_t rank, const std::vector<std::int64_t>& shape) {
  require(shape.size() == rank, "expected array ", in_quotes(name), " with ", rank, rank == 1 ? " axis" : " axes",
          ", got shape ", shape_text(shape));
}

/// How an array becomes an `Object`. A number, unless it is one of the types below.
template <class Object, bool dense = is_dense<Object>>
struct ArrayTarget {
  using Scalar = Object;
  static_assert(is_rounded<Scalar> || has_dtype<Scalar>, "batchnorm: expected a tensor, a matrix or a number");

  static void resize(const std::string& name, Object&, const std::vector<std::int64_t>& shape) {
    check_rank(name, 0, shape);
  }
  static Strided<Scalar> elements(Object& number) { return {&number, {}, {}}; }
};

template <class T, int Rank, int Options, class IndexType>
struct ArrayTarget<Eigen::Tensor<T, Rank, Options, IndexType>, false> {
  using Object = Eigen::Tensor<T, Rank, Options, IndexType>;
  using Scalar = T;

  static void resize(const std::string& name, Object& tensor, const std::vector<std::int64_t>& shape) {
    check_rank(name, static_cast<std::size_t>(Rank), shape);
    Eigen::array<IndexType, static_cast<std::size_t>(Rank)> dimensions{};
    for (std::size_t i = 0; i < shape.size(); ++i) dimensions[i] = static_cast<IndexType>(shape[i]);
    tensor.resize(dimensions);
  }
  static Strided<Scalar> elements(Object& tensor) { return strided<Scalar>(tensor, true); }
};

template <class Object>
struct ArrayTarget<Object, true> {
  using Scalar = typename Object::Scalar;

  static void resize(const std::string& name, Object& matrix, const std::vector<std::int64_t>& shape) {
    constexpr bool vector = Object::IsVectorAtCompileTime;
    constexpr Eigen::Index fixed_rows = Object::RowsAtCompileTime, fixed_cols = Object::ColsAtCompileTime;
    check_rank(name, vector ? 1 : 2, shape);
    const auto first = static_cast<Eigen::Index>(shape.front()), last = static_cast<Eigen::Index>(shape.back());
    const Eigen::Index rows = vector && fixed_rows == 1 ? 1 : first, cols = vector && fixed_rows != 1 ? 1 : last;
    require(
        (fixed_rows == Eigen::Dynamic || fixed_rows == rows) && (fixed_cols == Eigen::Dynamic || fixed_cols == cols),
        "expected array ", in_quotes(name), " of ", Object::SizeAtCompileTime, " elements, got shape ",
        shape_text(shape));
    matrix.resize(rows, cols);
  }
  static Strided<Scalar> elements(Object& matrix) { return strided<Scalar>(matrix, true); }
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_FILES_OBJECTS_HPP
