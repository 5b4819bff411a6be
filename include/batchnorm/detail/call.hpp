// The arguments of a layer's calls: what is wrong with their number and order is said in one sentence.

#ifndef BATCHNORM_DETAIL_CALL_HPP
#define BATCHNORM_DETAIL_CALL_HPP

#include "batchnorm/detail/interface/checks.hpp"
#include "batchnorm/detail/schedule/device.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The calls of a layer, told apart by what they are handed.
enum class Call { forward, backward };

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
  constexpr std::size_t count = sizeof...(Arguments), most = call == Call::backward ? 4 : 2;
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
  if constexpr (count >= (call == Call::backward ? 2 : 1) && count <= most) {
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
