// Work in phases, each of many tasks, on the threads of the caller's device.

#ifndef BATCHNORM_DETAIL_SCHEDULE_PHASES_HPP
#define BATCHNORM_DETAIL_SCHEDULE_PHASES_HPP

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "batchnorm/detail/schedule/device.hpp"
#include "batchnorm/detail/schedule/thread_team.hpp"
#include "batchnorm/detail/schedule/tiling.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

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
  std::exception_ptr exception_{};
};

/// task(0) ... task(count - 1), each once. Neighbouring ones go to the same thread, while it keeps up with the others:
/// in the order of their numbers, or backward, which begins with what a phase before it has left in the cache.
template <class Task>
struct Phase {
  Index count;
  bool backward;
  Task task;
};

template <class Task>
Phase<Task> phase(Index count, Task task) {
  return {count, false, task};
}

template <class Task>
Phase<Task> backward_phase(Index count, Task task) {
  return {count, true, task};
}

// How far several threads have come with a phase.
class Progress {
 public:
  static constexpr Index most_shares = 32;

  // Does tasks of the thread's own share, then of those that others have not come to.
  template <class Task>
  void take_part(const Phase<Task>& phase, Index shares, Index thread, const FirstException& exception) {
    for (Index i = 0; i < shares; ++i) {
      const Index share = (thread + i) % shares;
      const Index begin = cut(phase.count, shares, share), end = cut(phase.count, shares, share + 1);
      for (Index k;
           !exception.caught() && (k = taken_[share].number.fetch_add(1, std::memory_order_relaxed)) < end - begin;) {
        phase.task(phase.backward ? end - 1 - k : begin + k);
        done_.fetch_add(1, std::memory_order_release);
      }
    }
  }

  // Returns when all of a phase's tasks are done.
  template <class Task>
  void wait(const Phase<Task>& phase, const FirstException& exception) const {
    while (!exception.caught() && done_.load(std::memory_order_acquire) < phase.count) std::this_thread::yield();
  }

 private:
  struct alignas(64) Taken {
    std::atomic<Index> number{0};
  };

  Taken taken_[most_shares];
  std::atomic<Index> done_{0};
};

/// Runs phases one after another on up to `threads` threads, which stay until the last phase has no task left, and
/// returns when all is done. An exception out of a task is rethrown here, and later tasks are left out.
template <class Device, class... Tasks>
void run_phases(const Device& device, Index threads, const Phase<Tasks>&... phases) {
  if constexpr (has_threads<Device>::value) {
    const Index most = (std::min)(threads, (std::max)({phases.count...}));
    if (most > 1) {
      const Index shares = (std::min)(most, Progress::most_shares);
      FirstException exception;
      Progress progress[sizeof...(phases)];
      const auto work = [&](Index number) {
        exception.guard([&] {
          const Index thread = number % shares;
          Progress* now = progress;
          const auto take_part = [&](const auto& phase) {
            now->take_part(phase, shares, thread, exception);
            if (now + 1 != progress + sizeof...(phases)) now->wait(phase, exception);
            ++now;
          };
          (take_part(phases), ...);
        });
      };
      if constexpr (std::is_same_v<Device, Eigen::ThreadPoolDevice>) {
        std::atomic<Index> arrived{0};
        ThreadTeam::run(*device.getPool(), most, [&] { work(arrived.fetch_add(1, std::memory_order_relaxed)); });
      } else {
        // A cost so high that the device gives every index a thread of its own. A device that gives an index to the
        // same thread in every call lets it find in its cache what it left there last time.
        device.parallelFor(most, Eigen::TensorOpCost(1e9, 1e9, 1e9), [&work](Index first, Index last) {
          for (; first < last; ++first) work(first);
        });
      }
      return exception.rethrow();
    }
  }
  static_cast<void>(device), static_cast<void>(threads);
  const auto run = [](const auto& phase) {
    for (Index i = 0; i < phase.count; ++i) phase.task(phase.backward ? phase.count - 1 - i : i);
  };
  (run(phases), ...);
}

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_PHASES_HPP
