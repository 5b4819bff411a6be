// What the memory allows: the C library's memcpy of the tensor, and a plain loop that adds two tensors into a third.
// On several threads the tensor is cut into as many pieces, which the threads of the Eigen device take; where that does
// not pay, the whole on one thread counts. To wake Eigen's threads can cost more than such a copy, so "spin" shows the
// same on threads that wait for their piece in a busy loop, as OpenMP's do for a while.

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>

#include "contenders.hpp"

namespace bench {
namespace {

#if defined(__x86_64__) && defined(__GNUC__)
#define BENCH_X86 1
#endif

#define BENCH_ADD_LOOP                                                                        \
  (const float* __restrict a, const float* __restrict b, float* __restrict sum, Index size) { \
    for (Index i = 0; i < size; ++i) sum[i] = a[i] + b[i];                                    \
  }

void add_baseline BENCH_ADD_LOOP
#ifdef BENCH_X86
    __attribute__((target("avx2"))) void add_avx2 BENCH_ADD_LOOP
#ifdef __clang__
    __attribute__((target("avx512f,avx512vl"), min_vector_width(512))) void add_avx512 BENCH_ADD_LOOP
#else
    __attribute__((target("avx512f,avx512vl,prefer-vector-width=512"))) void add_avx512 BENCH_ADD_LOOP
#endif
#endif
#undef BENCH_ADD_LOOP

    // Threads that wait for work in a busy loop for about a millisecond before they sleep.
    class SpinningTeam {
 public:
  explicit SpinningTeam(int others) {
    for (int i = 0; i < others; ++i) threads_.emplace_back([this, i] { work(i); });
  }

  ~SpinningTeam() {
    stop_ = true;
    start([](int) {});
    for (std::thread& thread : threads_) thread.join();
  }

  // task(i) for each i in [0, others), one on each thread; wait() returns when all are done.
  void start(std::function<void(int)> task) {
    task_ = std::move(task);
    running_ = static_cast<int>(threads_.size());
    ++generation_;
    if (sleepers_ > 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      awake_.notify_all();
    }
  }

  void wait() const {
    while (running_ > 0) relax();
  }

 private:
  static void relax() {
#ifdef BENCH_X86
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

SpinningTeam& spinning_team(int others) {
  static SpinningTeam team(others);  // the number of threads is the same in all of a run
  return team;
}

struct Piece {
  Index begin, size;
};

// The i-th of as many pieces as there are threads, of whole pages where the tensor is large and whole lines elsewhere.
Piece piece(Index size, int pieces, int i) {
  const Index grain = size >= 4096 * pieces ? 1024 : 16;
  const Index each = (size / pieces + grain - 1) / grain * grain;
  const Index begin = std::min(i * each, size);
  return {begin, i == pieces - 1 ? size - begin : std::min(each, size - begin)};
}

template <class F>
void add_contenders(std::vector<Contender>& limits, const std::string& name, const Problem& problem, Threads threads,
                    F f) {
  const Index size = problem.shape.size();
  Contender whole;
  whole.name = "limit:" + name;
  whole.run = [f, size] { f(0, size); };
  whole.is_limit = true;
  if (threads.device) {
    const int others = threads.count - 1;
    const auto run = [f, size, others](int i) {
      const Piece p = piece(size, others + 1, i);
      f(p.begin, p.size);
    };
    Contender pieces = whole;
    pieces.name += "-split";
    pieces.run = [=, pool = threads.device->getPool()] {
      Eigen::Barrier done(static_cast<unsigned>(others));
      for (int i = 0; i < others; ++i) {
        pool->Schedule([run, i, &done] {
          run(i);
          done.Notify();
        });
      }
      run(others);
      done.Wait();
    };
    limits.push_back(pieces);
    pieces.name = "spin:" + name + "-split";
    pieces.run = [run, others, &team = spinning_team(others)] {
      team.start(run);
      run(others);
      team.wait();
    };
    limits.push_back(pieces);
  }
  // On several threads the unsplit one matters for small tensors only.
  if (!threads.device || size <= 1 << 20) limits.push_back(whole);
}

}  // namespace

std::vector<Contender> limits(const Problem& problem, Pass pass, Threads threads) {
  std::vector<Contender> limits;
  const float* x = problem.x.data();
  const float* dy = problem.dy.data();
  float* out = problem.out.data();
  if (pass != Pass::backward) {
    add_contenders(limits, "memcpy", problem, threads, [=](Index begin, Index size) {
      std::memcpy(out + begin, x + begin, static_cast<std::size_t>(size) * sizeof(float));
    });
    return limits;
  }
  const auto add_limit = [&](const std::string& name, auto add) {
    add_contenders(limits, name, problem, threads,
                   [=](Index begin, Index size) { add(x + begin, dy + begin, out + begin, size); });
  };
#ifdef BENCH_X86
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx512) add_limit("add-avx512", add_avx512);
  if (avx2) add_limit("add-avx2", add_avx2);
  if (!avx2) add_limit("add", add_baseline);
#else
  add_limit("add", add_baseline);
#endif
  return limits;
}

}  // namespace bench
