// Tasks on the threads of the caller's Eigen device.

#ifndef BATCHNORM_DETAIL_DEVICE_HPP
#define BATCHNORM_DETAIL_DEVICE_HPP

#include <atomic>
#include <exception>
#include <limits>
#include <memory>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "batchnorm/detail/tensor.hpp"

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
  static_assert(
      is_device,
      "batchnorm: expected an Eigen tensor, or an Eigen device that runs on the CPU and then a tensor; the "
      "devices are DefaultDevice, and ThreadPoolDevice with EIGEN_USE_THREADS defined before the first include "
      "of Eigen's tensors");
  return is_device;
}

/// How many threads to use for work on so many bytes: one where the caller is itself one of the device's threads,
/// which would wait for itself, and where waking another takes longer than the work.
template <class Device>
Index usable_threads(const Device& device, Index bytes) {
  if constexpr (has_threads<Device>::value) {
    constexpr Index worth_a_thread = Index(512) << 10;
    const Index threads = static_cast<Index>(device.numThreads());
    if (threads > 1 && bytes >= 2 * worth_a_thread && device.currentThreadId() == -1) {
      return bytes / worth_a_thread < threads ? bytes / worth_a_thread : threads;
    }
  }
  static_cast<void>(device), static_cast<void>(bytes);
  return 1;
}

// The first exception out of several threads' tasks, for the thread that waits for them.
class FirstException {
 public:
  template <class Action>
  void guard(const Action& action) {
#if BATCHNORM_EXCEPTIONS
    try {
      action();
    } catch (...) {
      if (!caught_.exchange(true)) exception_ = std::current_exception();
    }
#else
    action();
#endif
  }
  bool caught() const { return caught_.load(std::memory_order_relaxed); }
  void rethrow() const {
#if BATCHNORM_EXCEPTIONS
    if (exception_) std::rethrow_exception(exception_);
#endif
  }

 private:
  std::atomic<bool> caught_{false};
  std::exception_ptr exception_;
};

/// The threads of a pool that help a caller with one piece of work. A sleeping thread takes tens of microseconds to
/// wake: the caller works meanwhile, and waits only for those that have begun, where `parallelFor` waits for all of
/// them to come and find nothing left to do.
class Helpers {
 public:
  /// Runs `work`, which must not throw, on the caller's thread and on up to `threads` - 1 others at once. Returns when
  /// it has returned on all that began it.
  template <class Pool, class Work>
  static void run(Pool& pool, Index threads, const Work& work) {
    const std::shared_ptr<Helpers> helpers = idle();
    helpers->call_ = [](const void* function) { (*static_cast<const Work*>(function))(); };
    helpers->work_ = &work;
    helpers->inside_.store(0, std::memory_order_relaxed);
    for (Index i = 1; i < threads; ++i) {
      if (!helpers->ask(pool, helpers)) break;
    }
    work();
    Index inside = helpers->inside_.fetch_add(closed, std::memory_order_acq_rel) + closed;
    for (; inside != closed; inside = helpers->inside_.load(std::memory_order_acquire)) std::this_thread::yield();
  }

 private:
  static constexpr Index closed = (std::numeric_limits<Index>::min)() / 2;

  // Helpers whom no thread of an earlier call has yet to meet. Their number grows only while threads are late.
  static std::shared_ptr<Helpers> idle() {
    static thread_local std::vector<std::shared_ptr<Helpers>> all;
    for (const auto& helpers : all) {
      if (helpers->asked_.load(std::memory_order_acquire) == 0) return helpers;
    }
    all.push_back(std::make_shared<Helpers>());
    return all.back();
  }

  // False where the pool has no memory for one more: the work gets done without.
  template <class Pool>
  bool ask(Pool& pool, const std::shared_ptr<Helpers>& self) {
    asked_.fetch_add(1, std::memory_order_relaxed);
#if BATCHNORM_EXCEPTIONS
    try {
      pool.Schedule([self] { self->help(); });
    } catch (...) {
      asked_.fetch_sub(1, std::memory_order_release);
      return false;
    }
#else
    pool.Schedule([self] { self->help(); });
#endif
    return true;
  }

  void help() {
    if (inside_.fetch_add(1, std::memory_order_acq_rel) >= 0) call_(work_);
    inside_.fetch_sub(1, std::memory_order_release);
    asked_.fetch_sub(1, std::memory_order_release);
  }

  void (*call_)(const void*) = nullptr;
  const void* work_ = nullptr;
  std::atomic<Index> inside_{0};  // threads at work; with `closed` added once the caller is done, negative
  std::atomic<Index> asked_{0};   // threads that were asked and have not come and gone
};

/// Runs task(0) ... task(count - 1), each once, on up to `threads` threads, which take the next one as they are done
/// with the last, and returns when all are done. An exception out of a task is rethrown here.
template <class Device, class Task>
void for_each_task(const Device& device, Index threads, Index count, const Task& task) {
  if constexpr (has_threads<Device>::value) {
    if (threads > 1 && count > 1) {
      std::atomic<Index> next{0};
      FirstException exception;
      const auto work = [&] {
        exception.guard([&] {
          for (Index i; !exception.caught() && (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i);
        });
      };
      const Index most = threads < count ? threads : count;
      if constexpr (std::is_same_v<Device, Eigen::ThreadPoolDevice>) {
        Helpers::run(*device.getPool(), most, work);
      } else {
        // A cost so high that the device gives every index a thread of its own.
        device.parallelFor(most, Eigen::TensorOpCost(1e9, 1e9, 1e9), [&work](Index first, Index last) {
          for (; first < last; ++first) work();
        });
      }
      return exception.rethrow();
    }
  }
  static_cast<void>(device), static_cast<void>(threads);
  for (Index i = 0; i < count; ++i) task(i);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_DEVICE_HPP
