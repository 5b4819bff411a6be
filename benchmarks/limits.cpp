// What the memory allows: the C library's memcpy of the tensor, and a plain loop that adds two tensors into a third.
// On several threads the tensor is cut into as many pieces, which the threads of the Eigen device take; where that does
// not pay, the whole on one thread counts. To wake Eigen's threads can cost more than such a copy, so "spin" shows the
// same on OpenMP's, which wait for their piece in a busy loop for a while.

#include <algorithm>
#include <cstring>

#include "contenders.hpp"

namespace bench {
namespace {

#define BENCH_ADD(name)                                                                                \
  void name(const float* __restrict a, const float* __restrict b, float* __restrict sum, Index size) { \
    for (Index i = 0; i < size; ++i) sum[i] = a[i] + b[i];                                             \
  }                                                                                                    \
  static_assert(true)

BENCH_ADD(add_baseline);
#if defined(__x86_64__) && defined(__GNUC__)
#define BENCH_X86 1
__attribute__((target("avx2"))) BENCH_ADD(add_avx2);
#ifdef __clang__
__attribute__((target("avx512f,avx512vl"), min_vector_width(512))) BENCH_ADD(add_avx512);
#else
__attribute__((target("avx512f,avx512vl,prefer-vector-width=512"))) BENCH_ADD(add_avx512);
#endif
#endif
#undef BENCH_ADD

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
#ifdef _OPENMP
    pieces.name = "spin:" + name + "-split";
    pieces.run = [run, count = threads.count] {
#pragma omp parallel for schedule(static, 1) num_threads(count)
      for (int i = 0; i < count; ++i) run(i);
    };
    limits.push_back(pieces);
#endif
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
