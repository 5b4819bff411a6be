// A device of any type behind one type, for passes that are compiled once for all of them.

#ifndef BATCHNORM_DETAIL_SCHEDULE_ANY_DEVICE_HPP
#define BATCHNORM_DETAIL_SCHEDULE_ANY_DEVICE_HPP

#include <atomic>

#include "batchnorm/detail/schedule/device.hpp"
#include "batchnorm/detail/schedule/thread_team.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The caller's device, as long as it lives, with what is asked of one that has threads.
class AnyDevice {
 public:
  template <class Device>
  explicit AnyDevice(const Device& device) : device_(&device) {
    if constexpr (has_threads<Device>::value) {
      threads_ = static_cast<Index>(device.numThreads());
      thread_ = static_cast<int>(device.currentThreadId());
      run_ = run_on<Device>;
    }
  }

  Index numThreads() const { return threads_; }    // NOLINT(readability-identifier-naming)
  int currentThreadId() const { return thread_; }  // NOLINT(readability-identifier-naming)

  /// Calls work(i, i + 1) at once for as many i in [0, n) as threads come, each once.
  template <class Work>
  // NOLINTNEXTLINE(readability-identifier-naming)
  void parallelFor(Index n, const Eigen::TensorOpCost&, const Work& work) const {
    run_(
        device_, n, [](const void* function, Index i) { (*static_cast<const Work*>(function))(i, i + 1); }, &work);
  }

 private:
  using Task = void (*)(const void*, Index);

  template <class Device>
  static void run_on(const void* given, Index n, Task task, const void* work) {
    const Device& device = *static_cast<const Device*>(given);
    if constexpr (std::is_same_v<Device, Eigen::ThreadPoolDevice>) {
      std::atomic<Index> arrived{0};
      ThreadTeam::run(*device.getPool(), n, [&] { task(work, arrived.fetch_add(1, std::memory_order_relaxed)); });
    } else {
      device.parallelFor(n, Eigen::TensorOpCost(1e9, 1e9, 1e9), [task, work](Index first, Index last) {
        for (; first < last; ++first) task(work, first);
      });
    }
  }

  const void* device_;
  Index threads_ = 1;
  int thread_ = -1;
  void (*run_)(const void*, Index, Task, const void*) = nullptr;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_ANY_DEVICE_HPP
