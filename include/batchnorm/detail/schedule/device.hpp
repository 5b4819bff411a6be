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

// Of a first argument that is no tensor.
template <class Device>
constexpr bool check_device_type() {
  constexpr bool is_device =
      std::is_convertible_v<const Device*, const Eigen::DefaultDevice*> || has_threads<Device>::value;
  static_assert(is_device,
                "batchnorm: expected an Eigen tensor, or an Eigen device that runs on the CPU and then a tensor; the "
                "devices are DefaultDevice, ThreadPoolDevice with EIGEN_USE_THREADS defined before the first include "
                "of Eigen's tensors, and classes with its numThreads, currentThreadId and parallelFor");
  return is_device;
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
