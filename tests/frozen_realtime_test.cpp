// FrozenBatchNorm on a thread that may neither allocate, free, lock nor yield: each of these is counted on the thread
// that calls apply, by functions that stand in for those of the C library. And no heap at all where the number of
// channels is known at compile time.

#include <batchnorm/frozen_batch_norm.hpp>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "catch.hpp"

namespace {

thread_local long forbidden_calls = 0;

}  // namespace

#if defined(__GLIBC__) && !defined(BATCHNORM_TESTS_SANITIZED)
#include <dlfcn.h>
#include <pthread.h>

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) { return ++forbidden_calls, __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return ++forbidden_calls, __libc_calloc(count, size); }
void* realloc(void* block, std::size_t size) { return ++forbidden_calls, __libc_realloc(block, size); }
void* memalign(std::size_t alignment, std::size_t size) { return ++forbidden_calls, __libc_memalign(alignment, size); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  *block = memalign(alignment, size);
  return *block == nullptr ? 12 : 0;  // ENOMEM
}
void free(void* block) {
  ++forbidden_calls;
  __libc_free(block);
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  ++forbidden_calls;
  using Lock = int (*)(pthread_mutex_t*);
  static const Lock lock = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  return lock(mutex);
}
}
#define BATCHNORM_TESTS_COUNTS_LOCKS 1
#else
void* operator new(std::size_t size) {
  ++forbidden_calls;
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }
#define BATCHNORM_TESTS_COUNTS_LOCKS 0
#endif

namespace {

// How often `call` does what a real-time thread must not, on a thread of its own: also the first time that a thread
// does it, when what is local to threads is made.
template <class Call>
long forbidden_calls_of(const Call& call) {
  long count = 0;
  std::thread([&] {
    const long before = forbidden_calls;
    call();
    count = forbidden_calls - before;
  }).join();
  return count;
}

using batchnorm::FrozenBatchNorm;

}  // namespace

TEST_CASE("the count sees operator new, Eigen's allocator, and a lock") {
  CHECK(forbidden_calls_of([] {}) == 0);
  CHECK(forbidden_calls_of([] { delete new volatile int(1); }) >= 1);
#if BATCHNORM_TESTS_COUNTS_LOCKS
  CHECK(forbidden_calls_of([] { Eigen::MatrixXf(100, 100).setZero(); }) >= 1);
  std::mutex mutex;
  CHECK(forbidden_calls_of([&] { std::lock_guard<std::mutex> lock(mutex); }) == 1);
#endif
}

TEMPLATE_TEST_CASE("apply neither allocates nor frees nor locks, not even the first time that a thread calls it", "",
                   float, double, Eigen::half) {
  using T = TestType;
  const std::vector<float> one(19, 1), absent;
  const std::vector<double> tiny(19, 1e-60);
  const FrozenBatchNorm<T> rows(one, one, one, one, 1e-5, 0), columns(one, one, one, one, 1e-5),
      exact(one, one, one, tiny, 0, 0);
  const FrozenBatchNorm<T, 19> fixed(one, one, one, one, 1e-5, 0);
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  Matrix x = Matrix::Constant(19, 600, T(2)), y = x, z = x.transpose();
  const auto tanh = [](const auto& a) { return a.tanh(); };
  const auto swish = [](const auto& a) { return a / (T(1) + (-a).exp()); };
  const Eigen::Array<T, Eigen::Dynamic, 1> slopes = Eigen::Array<T, Eigen::Dynamic, 1>::Constant(19, T(0.5f));
  const auto leaky = [&](const auto& a) { return (a > T(0)).select(a, a.colwise() * slopes); };
  const auto all = [&](const auto& bn) {
    bn.apply(x.data(), y.data());
    bn.apply(x.data(), y.data(), tanh);
    for (const auto& f : {0, 1}) {
      const std::ptrdiff_t inner = f == 0 ? 1 : 30;
      bn.apply(x.data(), y.data(), 600 / inner, inner);
      bn.apply(x.data(), y.data(), 600 / inner, inner, swish);
      bn.apply(x.data(), y.data(), 600 / inner, inner, leaky);
    }
    bn.apply(x, y);
    bn.apply(y.middleCols(7, 90), y.middleCols(7, 90), tanh);
    bn.apply(x.array(), y.array(), leaky);
    bn.apply(x.col(3), y.col(3), swish);
  };
  CHECK(forbidden_calls_of([&] { all(rows); }) == 0);
  CHECK(forbidden_calls_of([&] { all(fixed); }) == 0);
  CHECK(forbidden_calls_of([&] { all(exact); }) == 0);
  CHECK(forbidden_calls_of([&] { columns.apply(z, z); }) == 0);
  CHECK(forbidden_calls_of([&] { columns.apply(z.middleRows(2, 5), z.middleRows(2, 5), tanh); }) == 0);
}

TEST_CASE("an array of Eigen's own type is not copied for an activation") {
  const FrozenBatchNorm<float> bn(19);
  Eigen::ArrayXXf x = Eigen::ArrayXXf::Constant(7, 19, 2);
  CHECK(forbidden_calls_of([&] { bn.apply(x, x, [](auto a) { return a.tanh(); }); }) == 0);
}

TEST_CASE("with channels known at compile time there is no heap, to make, fill, copy or move it either") {
  const std::array<float, 5> one{{1, 1, 1, 1, 1}};
  const Eigen::Matrix<double, 5, 1> two = Eigen::Matrix<double, 5, 1>::Constant(2);
  CHECK(forbidden_calls_of([&] {
          FrozenBatchNorm<float, 5> bn(one, two, one, two * 2, 1e-5), copy(bn);
          bn.set_weight(two).set_bias(one).set_running_mean(two).set_running_var(two.cwiseAbs()).set_epsilon(1);
          copy = bn;
          float x[5] = {};
          copy.apply(x, x);
          copy.folded_scale();
        }) == 0);
}
