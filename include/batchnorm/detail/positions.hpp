// A mask or weights, one number per sample or per position, from what people hold them in; and parameters of a call.

#ifndef BATCHNORM_DETAIL_POSITIONS_HPP
#define BATCHNORM_DETAIL_POSITIONS_HPP

#include <cmath>
#include <vector>

#include "batchnorm/detail/extended.hpp"
#include "batchnorm/detail/interface/values.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The check of a mask's or weights' type: a vector of numbers, one per sample, or a tensor of rank Dims - 1 in the
/// layout of x.
template <int Dims, int Layout, class W>
constexpr bool check_positions_type() {
  if constexpr (is_tensor<W>) {
    constexpr bool rank_fits = rank_of<W> == 1 || rank_of<W> == Dims - 1;
    static_assert(
        rank_fits,
        "batchnorm: expected a mask or weights for each sample, in a tensor of rank 1, or for each position, in "
        "a tensor of x's shape without the channel axis");
    constexpr bool layout_fits = !rank_fits || rank_of<W> == 1 || layout_of<W> == Layout;
    static_assert(layout_fits,
                  "batchnorm: the layout of the mask or weights differs from that of x (RowMajor or ColMajor)");
    return rank_fits && layout_fits && !is_complex<scalar_of<W>>;
  } else {
    return check_values_type<double, W>();
  }
}

/// f(value) for each value in its order, and how many there are.
template <class W, class F>
Index for_each_value(const W& given, const F& f) {
  Index count = 0;
  if constexpr (is_tensor<W>) {
    const auto& values = evaluated(Eigen::DefaultDevice(), given);
    for (; count < static_cast<Index>(values.size()); ++count) f(values.data()[count]);
  } else if constexpr (is_dense<W>) {
    const auto& values = evaluated(Eigen::DefaultDevice(), given);
    const auto rows = static_cast<Index>(values.rows()), columns = static_cast<Index>(values.cols());
    for (Index k = 0; k < columns; ++k) {
      for (Index i = 0; i < rows; ++i, ++count) {
        f(values.coeff(static_cast<Eigen::Index>(i), static_cast<Eigen::Index>(k)));
      }
    }
  } else if constexpr (has_begin_and_end<const W>) {
    for (auto&& value : given) {
      f(static_cast<typename decltype(element_of<W>())::type>(value));
      ++count;
    }
  } else {
    for (; count < static_cast<Index>(given.size()); ++count) f(given.data()[count]);
  }
  return count;
}

/// The shape of a mask for the positions of x.
template <std::size_t Rank>
std::array<Index, Rank - 1> without_axis(const std::array<Index, Rank>& shape, int axis) {
  std::array<Index, Rank - 1> result{};
  for (std::size_t i = 0, k = 0; i < Rank; ++i) {
    if (i != static_cast<std::size_t>(axis)) result[k++] = shape[i];
  }
  return result;
}

/// Sets the weights of all positions of x, of this shape. Throws std::invalid_argument for another number of values
/// than there are samples or positions, and for values that are none: of a mask other than 0 and 1, of weights what is
/// negative or not finite.
template <class T, std::size_t Rank, class W>
void set_position_weights(WeightKind kind, const W& given, const std::array<Index, Rank>& shape, int layout, int axis,
                          std::vector<T>& result) {
  const bool is_mask = kind == WeightKind::mask;
  const char* const name = is_mask ? "the mask" : "the sample weights";
  const View view = make_view(shape, layout, axis);
  const Samples samples = Samples::of(view, shape, layout, axis);
  const auto positions_shape = without_axis(shape, axis);
  const Index positions = view.values_per_channel();

  bool per_sample = true;
  if constexpr (is_tensor<W> && rank_of<W> != 1) {
    per_sample = false;
    const auto found = shape_of(given, 0);
    require(found == positions_shape, "expected ", name, " of ", samples.count,
            " samples, or of the shape of x without "
            "its channels, ",
            shape_text(positions_shape), ", got ", shape_text(found));
  } else if constexpr (is_dense<W>) {
    require(given.rows() == 1 || given.cols() == 1 || given.size() == 0, "expected ", name, " in a vector, got ",
            given.rows(), " rows and ", given.cols(), " columns");
  }
  result.resize(static_cast<std::size_t>(positions));
  const Index expected = per_sample ? samples.count : positions;
  const Index each = positions == 0 ? 0 : positions / expected;  // positions of a value
  Index at = 0;
  const Index count = for_each_value(given, [&](const auto& value) {
    const Index k = at++;
    if (k >= expected || positions == 0) return;
    T weight(0);
    if constexpr (std::is_same_v<plain<decltype(value)>, bool>) {
      if (value) weight = T(1);
    } else {
      weight = value_as<T>(value);
      const bool is_number = weight >= T(0) && weight - weight == T(0);
      require(is_number && (!is_mask || weight == T(0) || weight == T(1)), "expected ",
              is_mask ? "a mask of 0 and 1" : "finite sample weights of at least 0", ", got another value at place ",
              k);
    }
    if (!per_sample || !samples.fast) {
      std::fill_n(result.begin() + static_cast<std::ptrdiff_t>(k * each), each, weight);
    } else {
      for (Index p = k; p < positions; p += samples.count) result[static_cast<std::size_t>(p)] = weight;
    }
  });
  require(count == expected, "expected ", name, " of ", samples.count, " samples, got ", count, " values");
}

/// A weight or bias of a call, [channels] or [samples, channels].
template <class P, class W>
Parameter<P> parameter_of(const char* name, W& given, Index samples, Index channels) {
  constexpr int rank = is_vector<W> ? 1 : rank_of<W>;
  if constexpr (rank == 1) {
    require(static_cast<Index>(given.size()) == channels, "expected ", name, " of ", channels, " channels, got ",
            given.size());
    Index stride = 1;
    if constexpr (is_dense<W>) stride = static_cast<Index>(given.innerStride());
    return {given.data(), 0, stride};
  } else {
    const auto found = view_tensor<P>(given, 1);
    const Shape<2> expected{samples, channels};
    require(found.shape == expected, "expected ", name, " of the shape [samples, channels], ", shape_text(expected),
            ", got ", shape_text(found.shape));
    if (found.has_strides) return {found.data, found.strides[0], found.strides[1]};
    if (layout_of<W> == Eigen::RowMajor) return {found.data, channels, 1};
    return {found.data, 1, samples};
  }
}

template <class Param, class W>
constexpr bool check_parameter_type() {
  constexpr bool known = is_tensor<W> ? rank_of<W> == 1 || rank_of<W> == 2 : is_dense<W>;
  static_assert(known,
                "batchnorm: expected affine(weight, bias) in Eigen tensors of rank 1 ([channels]) or 2 ([samples, "
                "channels]), or in Eigen vectors or matrices");
  constexpr bool same = !known || std::is_same_v<scalar_of<W>, Param>;
  static_assert(
      same,
      "batchnorm: the scalar of affine(weight, bias) differs from the layer's Param, which is float for layers "
      "of float and of the 16-bit types, else the layer's T");
  return known && same;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_POSITIONS_HPP
