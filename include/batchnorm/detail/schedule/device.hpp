// The caller's Eigen device, and how many of its threads to use.

#ifndef BATCHNORM_DETAIL_SCHEDULE_DEVICE_HPP
#define BATCHNORM_DETAIL_SCHEDULE_DEVICE_HPP

#include <type_traits>
#include <utility>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

// Duck-typed, because Eigen defines ThreadPoolDevice only where the user asked for it with EIGEN_USE_THREADS.
template <class Device, class = void>
struct has_threads : std::false_type {};
template <class Device>
struct has_threads<
    Device, std::void_t<decltype(std::declval<const Device&>().numThreads()),
                        decltype(std::declval<const Device&>().currentThreadId()),
                        decltype(std::declval<const Device&>().parallelFor(Index(), std::declval<Eigen::TensorOpCost>(),
                                                                           std::declval<void (*)(Index, Index)>()))>>
    : std::true_type {};

/// Whether X is a device of the CPU, or would be one had Eigen defined it.
template <class X>
inline constexpr bool is_device =
    std::is_convertible_v<const X*, const Eigen::DefaultDevice*> || is_thread_pool_device<X> || has_threads<X>::value;

// Of a first argument that is no tensor.
template <class Device>
constexpr bool check_device_type() {
  constexpr bool undefined = is_thread_pool_device<Device> && !has_threads<Device>::value;
  static_assert(
      !undefined,
      "batchnorm: Eigen::ThreadPoolDevice is declared here and not defined: define EIGEN_USE_THREADS before the "
      "first include of Eigen's tensors, or with the compiler's option -DEIGEN_USE_THREADS");
  static_assert(is_device<Device>,
                "batchnorm: expected an Eigen tensor, or an Eigen device that runs on the CPU and then a tensor; the "
                "devices are DefaultDevice, ThreadPoolDevice with EIGEN_USE_THREADS defined before the first include "
                "of Eigen's tensors, and classes with its numThreads, currentThreadId and parallelFor");
  return is_device<Device> && !undefined;
}

/// How many threads to use for work on so many bytes: one where the caller is itself one of the device's threads,
/// which would wait for itself, and where waking another takes longer than the work.
template <class Device>
Index usable_threads(const Device& device, Index bytes) {
  if constexpr (has_threads<Device>::value) {
    // Eigen's threads sleep. A device of the caller's own, made for more than us, is taken to be awake.
    constexpr Index worth_a_thread = Index(is_thread_pool_device<Device> ? 512 : 128) << 10;
    const Index threads = static_cast<Index>(device.numThreads());
    if (threads > 1 && bytes >= 2 * worth_a_thread && device.currentThreadId() == -1) {
      return bytes / worth_a_thread < threads ? bytes / worth_a_thread : threads;
    }
  }
  static_cast<void>(device), static_cast<void>(bytes);
  return 1;
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_DEVICE_HPP
