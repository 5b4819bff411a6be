// Threads of an Eigen pool that help a caller with its work.

#ifndef BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP
#define BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP

#include <atomic>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

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
  std::atomic<Index> inside_{closed};  // threads at work; with `closed` added while no caller is at work, negative
  std::atomic<Index> asked_{0};        // threads that were asked and have not come and gone
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP
