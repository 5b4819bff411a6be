// The arguments of a layer's calls: what is wrong with their number and order is said in one sentence.

#ifndef BATCHNORM_DETAIL_CALL_HPP
#define BATCHNORM_DETAIL_CALL_HPP

// First what says what is wrong with an argument: by as short a way as can be, since compilers print it before the
// error.
#include "batchnorm/detail/interface/checks.hpp"
#include "batchnorm/detail/schedule/device.hpp"

#include "batchnorm/detail/positions.hpp"
#include "batchnorm/tags.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The calls of a layer, told apart by what they are handed.
enum class Call { forward, backward };

/// Extras of a call, by their names.
template <class X>
inline constexpr bool is_residual = false;
template <class V>
inline constexpr bool is_residual<Residual<V>> = true;
template <class X>
inline constexpr bool is_output = false;
template <class V>
inline constexpr bool is_output<Output<V>> = true;
template <class X>
inline constexpr bool is_residual_grad = false;
template <class V>
inline constexpr bool is_residual_grad<ResidualGrad<V>> = true;
template <class X>
inline constexpr bool is_mask = false;
template <class V>
inline constexpr bool is_mask<Mask<V>> = true;
template <class X>
inline constexpr bool is_sample_weight = false;
template <class V>
inline constexpr bool is_sample_weight<SampleWeight<V>> = true;
template <class X>
inline constexpr bool is_affine_of_call = false;
template <class W, class B>
inline constexpr bool is_affine_of_call<AffineOfCall<W, B>> = true;
template <class X>
inline constexpr bool is_affine_grad = false;
template <class W, class B>
inline constexpr bool is_affine_grad<AffineGrad<W, B>> = true;

/// Tells a function which tag to look for.
struct ResidualTag {
  template <class X>
  static constexpr bool is = is_residual<plain<X>>;
};
struct OutputTag {
  template <class X>
  static constexpr bool is = is_output<plain<X>>;
};
struct ResidualGradTag {
  template <class X>
  static constexpr bool is = is_residual_grad<plain<X>>;
};
struct MaskTag {
  template <class X>
  static constexpr bool is = is_mask<plain<X>>;
};
struct SampleWeightTag {
  template <class X>
  static constexpr bool is = is_sample_weight<plain<X>>;
};
struct AffineTag {
  template <class X>
  static constexpr bool is = is_affine_of_call<plain<X>>;
};
struct AffineGradTag {
  template <class X>
  static constexpr bool is = is_affine_grad<plain<X>>;
};

template <class X>
inline constexpr bool is_forward_tag =
    ResidualTag::is<X> || MaskTag::is<X> || SampleWeightTag::is<X> || AffineTag::is<X>;
template <class X>
inline constexpr bool is_backward_tag = OutputTag::is<X> || ResidualGradTag::is<X> || MaskTag::is<X> ||
                                        SampleWeightTag::is<X> || AffineTag::is<X> || AffineGradTag::is<X>;
template <class X>
inline constexpr bool is_tag = is_forward_tag<X> || is_backward_tag<X>;

template <class Tag, class... Tags>
inline constexpr bool has_tag = (Tag::template is<Tags> || ...);

/// The first of some tags that is the one in question.
template <class Tag, class First, class... Rest>
const auto& tag_of(const First& first, const Rest&... rest) {
  if constexpr (Tag::template is<First>) {
    return first;
  } else {
    return tag_of<Tag>(rest...);
  }
}

/// How many arguments there are before the tags.
template <class... Arguments>
constexpr std::size_t positional() {
  return (std::size_t(is_tag<Arguments> ? 0 : 1) + ... + 0);
}

template <class Tag, class... Arguments>
constexpr bool at_most_once() {
  return (std::size_t(Tag::template is<Arguments>) + ... + 0) <= 1;
}

// Whether the tags are the call's own, each once, and after all else.
template <Call call, class... Arguments>
constexpr bool check_tags() {
  constexpr bool known =
      ((!is_tag<Arguments> || (call == Call::forward ? is_forward_tag<Arguments> : is_backward_tag<Arguments>)) && ...);
  constexpr bool once = at_most_once<ResidualTag, Arguments...>() && at_most_once<OutputTag, Arguments...>() &&
                        at_most_once<ResidualGradTag, Arguments...>() && at_most_once<MaskTag, Arguments...>() &&
                        at_most_once<SampleWeightTag, Arguments...>() && at_most_once<AffineTag, Arguments...>() &&
                        at_most_once<AffineGradTag, Arguments...>();
  constexpr bool tags[] = {is_tag<Arguments>..., true};
  bool last = true;
  for (std::size_t i = 0; i < sizeof...(Arguments); ++i) last = last && (!tags[i] || tags[i + 1]);
  return known && once && last;
}

/// Whether X is what someone may take for a tensor and is none.
template <int Dims, class X>
inline constexpr bool is_mistaken_for_input =
    !is_input<Dims, X> &&
    (is_dense<X> || std::is_pointer_v<std::decay_t<X>> || has_begin_and_end<plain<X>> || has_data_and_size<plain<X>>);

template <int Dims, class X>
constexpr bool check_kind() {
  if constexpr (is_mistaken_for_input<Dims, X>) fail_for_no_tensor<Dims, X>();
  return !is_mistaken_for_input<Dims, X>;
}

// What follows the device, or all arguments where there is none.
template <Call call, int Dims, class... Arguments>
constexpr bool check_arguments() {
  constexpr std::size_t count = positional<Arguments...>(), most = call == Call::backward ? 4 : 2;
  constexpr bool tags_fit = check_tags<call, Arguments...>();
  static_assert(
      tags_fit || call == Call::backward,
      "batchnorm: forward and infer take residual(r), mask(m), sample_weight(w) and affine(weight, bias), each "
      "once, and after all other arguments");
  static_assert(
      tags_fit || call == Call::forward,
      "batchnorm: backward takes output(y), residual_grad(dr), mask(m), sample_weight(w), affine(weight, bias) "
      "and affine_grad(dweight, dbias), each once, and after all other arguments");
  constexpr bool one_weight = !((MaskTag::is<Arguments> || ...) && (SampleWeightTag::is<Arguments> || ...));
  static_assert(
      one_weight,
      "batchnorm: a call takes a mask(m) or a sample_weight(w), not both: what is masked takes no part, and what "
      "has weight 0 is normalized by the others");
  constexpr bool with_affine = !(AffineGradTag::is<Arguments> || ...) || (AffineTag::is<Arguments> || ...);
  static_assert(with_affine, "batchnorm: affine_grad(dweight, dbias) goes with affine(weight, bias)");
  static_assert(
      call == Call::forward || count != 1,
      "batchnorm: backward takes the x of the forward too, of which the layer keeps no copy: backward(x, dy), or "
      "backward(device, x, dy)");
  static_assert(call == Call::backward || count != 0,
                "batchnorm: expected a tensor after the device: forward(device, x), infer(device, x)");
  static_assert(call == Call::forward || count != 0,
                "batchnorm: expected two tensors after the device: backward(device, x, dy)");
  static_assert(
      call == Call::backward || count <= most,
      "batchnorm: too many arguments: the calls are forward(x) and forward(x, y), infer(x) and infer(x, y), each "
      "with a device as its first argument where there is one");
  static_assert(
      call == Call::forward || count <= most,
      "batchnorm: too many arguments: the calls are backward(x, dy) and backward(x, dy, dx), with a device as "
      "first argument where there is one, and saved statistics as last");
  if constexpr (tags_fit && one_weight && with_affine && count >= (call == Call::backward ? 2 : 1) && count <= most) {
    return (check_kind<Dims, Arguments>() && ...);
  } else {
    return false;
  }
}

/// The check of the types of a call's arguments, as they were deduced: whether they are a device, or none, and then as
/// many others as the call takes, none of them a matrix, a container or a pointer.
template <Call call, int Dims, class First, class... Rest>
constexpr bool check_call() {
  constexpr bool device_last = (is_device<plain<Rest>> || ...);
  static_assert(
      !device_last,
      "batchnorm: the device is the first argument: forward(device, x), infer(device, x, y), backward(device, x, "
      "dy)");
  if constexpr (!device_last) {
    if constexpr (is_input<Dims, First> || is_mistaken_for_input<Dims, First>) {
      return check_arguments<call, Dims, First, Rest...>();
    } else if constexpr (check_device_type<First>()) {
      return check_arguments<call, Dims, Rest...>();
    }
  }
  return false;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_CALL_HPP
