// Arrays in NumPy's format .npy. The umbrella batchnorm.hpp does not include this header.

#ifndef BATCHNORM_NPY_HPP
#define BATCHNORM_NPY_HPP

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/files/npy_header.hpp"
#include "batchnorm/named_array.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// An array as the last axis runs fastest, from a file in which the first one may.
inline NamedArray read_npy(ByteReader& file) {
  const NpyHeader header = read_npy_header(file);
  NamedArray array;
  array.name = file.name();
  array.dtype = header.dtype;
  array.shape = header.shape;
  std::int64_t size = 0;
  if (!byte_count(header.dtype, header.shape, size)) {
    file.damaged("has the shape ", shape_text(header.shape), " in its header, which no memory can hold");
  }
  array.bytes = file.read_at_most(static_cast<std::uint64_t>(size));
  if (array.bytes.size() != static_cast<std::uint64_t>(size)) {
    file.damaged("ends after ", array.bytes.size(), " bytes of elements, and ", header.dtype, " in shape ",
                 shape_text(header.shape), " take ", size);
  }
  std::byte after[1];
  if (file.read(after, 1) != 0) file.damaged("has bytes behind the ", size, " that its elements take");
  if (header.little_endian != is_little_endian()) swap_bytes(array.dtype, array.bytes.data(), array.bytes.size());
  if (header.fortran_order && array.shape.size() > 1) {
    const std::vector<std::byte> from = std::move(array.bytes);
    array.bytes.resize(from.size());
    const std::size_t element = size_of(array.dtype);
    Walk walk(array.shape, dense_strides(array.shape, false));
    for (std::size_t i = 0; i < from.size(); i += element, walk.next()) {
      std::memcpy(array.bytes.data() + i, from.data() + static_cast<std::size_t>(walk.offset()) * element, element);
    }
  }
  return array;
}

// Tensors whose first axis runs fastest are written as they lie.
template <class X>
void write_npy(const std::string& path, const X& x) {
  using T = scalar_of<X>;
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) {
    if constexpr (is_tensor<X>) {
      write_npy(path, evaluated(Eigen::DefaultDevice(), x.template cast<float>()));
    } else {
      write_npy(path, tensor_like<decltype(x.template cast<float>())>(x.template cast<float>()));
    }
  } else {
    const auto elements = strided<const T>(x, true);
    const bool fortran_order = layout_of<X> != static_cast<int>(Eigen::RowMajor) && elements.shape.size() > 1;
    std::vector<std::byte> bytes(static_cast<std::size_t>(elements.size()) * sizeof(T));
    std::byte* to = bytes.data();
    auto shape = elements.shape, strides = elements.strides;
    if (fortran_order) std::reverse(shape.begin(), shape.end()), std::reverse(strides.begin(), strides.end());
    Walk walk(shape, strides);
    for (std::int64_t i = 0, n = elements.size(); i < n; ++i, walk.next()) {
      append_element(elements.data[walk.offset()], to);
    }
    ByteWriter(path)
        .write(npy_header(dtype_of<T>, elements.shape, fortran_order))
        .write(bytes.data(), bytes.size())
        .close();
  }
}

}  // namespace detail

/// Writes a tensor, matrix, array or vector of Eigen's, or an expression of one, to a file that numpy.load reads. A
/// matrix has two axes, [rows, columns], and what is a vector at compile time one. What is stored with the first axis
/// running fastest, as Eigen's tensors and matrices are unless they are RowMajor, is written in that order
/// (fortran_order). NumPy has no bfloat16: it becomes float32, which holds it exactly. Throws std::runtime_error where
/// the file cannot be written.
///
///     batchnorm::save_npy("weight.npy", bn.weight());
template <class X>
void save_npy(const std::string& path, const X& values) {
  static_assert(detail::is_tensor<X> || detail::is_dense<X>,
                "batchnorm: expected an Eigen tensor, matrix or vector to save; of a pointer or a container write an "
                "Eigen::Map or Eigen::TensorMap");
  detail::write_npy(path, detail::evaluated(Eigen::DefaultDevice(), values));
}

/// Reads a file that numpy.save wrote, of either order of axes and of bytes, as an Eigen::Tensor, Matrix or Array of as
/// many axes. Floating-point numbers of any type become those of another, rounded to the nearest with ties to even;
/// integers become other integers if all fit. Throws std::runtime_error for a file that is damaged or cannot be read,
/// and std::invalid_argument for an array of another shape or kind. Memory is taken for the bytes that the file has,
/// whatever its header says.
///
///     const auto W = batchnorm::load_npy<Eigen::MatrixXf>("fc.npy");
template <class Object>
Object load_npy(const std::string& path) {
  const detail::OpenFile file = detail::open_file(path, "rb");
  detail::ByteReader reader(path, file.get());
  return detail::read_npy(reader).template as<Object>();
}

/// The same as a tensor of this scalar, rank and storage order, which is Eigen's default unless it is said.
///
///     Eigen::Tensor<float, 1> weight = batchnorm::load_npy<float, 1>("weight.npy");
template <class T, int Rank, int Options = Eigen::ColMajor>
Eigen::Tensor<T, Rank, Options> load_npy(const std::string& path) {
  return load_npy<Eigen::Tensor<T, Rank, Options>>(path);
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_NPY_HPP
