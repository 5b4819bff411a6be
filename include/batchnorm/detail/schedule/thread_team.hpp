// Threads of an Eigen pool that help a caller with its work.

#ifndef BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP
#define BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP

#include <atomic>
#include <cstdint>
#include <thread>

#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// The threads of a pool that help a caller with one piece of work. A sleeping thread takes tens of microseconds to
/// wake: the caller works meanwhile, and waits only for those that have begun, where `parallelFor` waits for all of
/// them to come and find nothing left to do.
///
/// A thread that comes late, when the call is over and its caller perhaps gone, has to read somewhere that it is late.
/// That is memory which outlives every call: a fixed number of meeting places, of which a call takes one and gives it
/// back. Nothing is allocated, and nothing is left in a place that another call would see.
class ThreadTeam {
 public:
  /// Runs `work`, which must not throw, on the caller's thread and on up to `threads` - 1 others at once. Returns when
  /// it has returned on all that began it.
  template <class Pool, class Work>
  static void run(Pool& pool, Index threads, const Work& work) {
    ThreadTeam* const place = take_place();
    if (place == nullptr) return work();  // so many calls at once leave no thread idle that could help
    place->call_ = [](const void* function) { (*static_cast<const Work*>(function))(); };
    place->work_ = &work;
    const std::uint32_t call = place->open();
    for (Index i = 1; i < threads; ++i) {
      if (!place->ask(pool, call)) break;
    }
    work();
    place->close();
    place->taken_.store(false, std::memory_order_release);
  }

 private:
  // As many calls at once can have helpers.
  static constexpr int most_places = 64;

  static ThreadTeam* take_place() {
    static ThreadTeam places[most_places];
    for (ThreadTeam& place : places) {
      if (!place.taken_.load(std::memory_order_relaxed) && !place.taken_.exchange(true, std::memory_order_acquire)) {
        return &place;
      }
    }
    return nullptr;
  }

  // False where the pool has no memory for one more: the work gets done without. What is captured fits into
  // std::function itself, which allocates for more than two pointers, or for what has a destructor.
  template <class Pool>
  bool ask(Pool& pool, std::uint32_t call) {
#if BATCHNORM_EXCEPTIONS
    try {
      pool.Schedule([this, call] { help(call); });
    } catch (...) {
      return false;
    }
#else
    pool.Schedule([this, call] { help(call); });
#endif
    return true;
  }

  // On a thread of the pool, perhaps long after the call.
  void help(std::uint32_t call) {
    std::uint64_t state = state_.load(std::memory_order_relaxed);
    do {
      if (static_cast<std::uint32_t>(state >> 32) != call) return;
    } while (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire, std::memory_order_relaxed));
    call_(work_);
    state_.fetch_sub(1, std::memory_order_release);
  }

  // The number by which helpers know this call.
  std::uint32_t open() {
    return static_cast<std::uint32_t>((state_.fetch_add(next_number, std::memory_order_release) + next_number) >> 32);
  }

  // Lets no one in any more, and returns when all are out.
  void close() {
    state_.fetch_add(next_number, std::memory_order_relaxed);
    while (static_cast<std::uint32_t>(state_.load(std::memory_order_acquire)) != 0) std::this_thread::yield();
  }

  static constexpr std::uint64_t next_number = std::uint64_t(1) << 32;

  // In the upper half the number of the present call, odd, or an even one between calls; in the lower half how many
  // helpers are at work. In one word, so that no helper enters a call that is being closed.
  alignas(64) std::atomic<std::uint64_t> state_{0};
  std::atomic<bool> taken_{false};
  void (*call_)(const void*) = nullptr;
  const void* work_ = nullptr;
};

}  // namespace detail
BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DETAIL_SCHEDULE_THREAD_TEAM_HPP
