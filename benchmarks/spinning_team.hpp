// Threads that wait for work in a busy loop for about a millisecond before they sleep, as OpenMP's do, and an
// Eigen-like device on them: what waking Eigen's own threads costs is the difference.

#ifndef BATCHNORM_BENCHMARKS_SPINNING_TEAM_HPP
#define BATCHNORM_BENCHMARKS_SPINNING_TEAM_HPP

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "contenders.hpp"

namespace bench {

class SpinningTeam {
 public:
  // With the caller as the last of `size` threads.
  explicit SpinningTeam(int size) {
    for (int i = 0; i < size - 1; ++i) threads_.emplace_back([this, i] { work(i); });
  }

  ~SpinningTeam() {
    stop_ = true;
    start([](int) {});
    for (std::thread& thread : threads_) thread.join();
  }

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // task(i) for each i in [0, size()), on the i-th thread.
  void run(std::function<void(int)> task) {
    start(std::move(task));
    task_(size() - 1);
    while (running_ > 0) relax();
  }

 private:
  void start(std::function<void(int)> task) {
    task_ = std::move(task);
    running_ = size() - 1;
    ++generation_;
    if (sleepers_ > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      awake_.notify_all();
    }
  }

  static void relax() {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_ia32_pause();
#endif
  }

  void work(int i) {
    for (int seen = 0; !stop_; ++seen) {
      for (int spins = 0; generation_ == seen && spins < 20000; ++spins) relax();
      if (generation_ == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        ++sleepers_;
        awake_.wait(lock, [&] { return generation_ != seen; });
        --sleepers_;
      }
      task_(i);
      --running_;
    }
  }

  std::function<void(int)> task_;
  std::atomic<int> generation_{0}, running_{0}, sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable awake_;
  std::vector<std::thread> threads_;
};

inline SpinningTeam& spinning_team(int size) {
  static SpinningTeam team(size);  // the number of threads is the same in all of a run
  return team;
}

// What the library asks of a device with threads.
class SpinningDevice {
 public:
  explicit SpinningDevice(SpinningTeam& team) : team_(&team) {}

  int numThreads() const { return team_->size(); }
  int currentThreadId() const { return -1; }  // its threads call no layer
  template <class Function>
  void parallelFor(Index n, const Eigen::TensorOpCost&, const Function& function) const {
    team_->run([&](int thread) {
      for (Index i = thread; i < n; i += numThreads()) function(i, i + 1);
    });
  }

 private:
  SpinningTeam* team_;
};

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_SPINNING_TEAM_HPP
