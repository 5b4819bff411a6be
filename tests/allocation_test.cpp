// Calls that write into the caller's memory allocate nothing after the first with a shape. Counted at malloc, which is
// below operator new and below Eigen's own allocator: by the sanitizers' hooks where there are some, by standing in for
// malloc where the C library is glibc, else at operator new alone.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <thread>
#include <utility>

#include "catch.hpp"
#include "fused_kernels.hpp"

namespace {

std::atomic<long> allocations{0};

}  // namespace

#if defined(__has_feature)
#define BATCHNORM_TESTS_HAS_FEATURE(x) __has_feature(x)
#else
#define BATCHNORM_TESTS_HAS_FEATURE(x) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || BATCHNORM_TESTS_HAS_FEATURE(address_sanitizer) || \
    BATCHNORM_TESTS_HAS_FEATURE(thread_sanitizer)

extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*, std::size_t),
                                                         void (*)(const volatile void*));

namespace {

void count_malloc(const volatile void*, std::size_t) { ++allocations; }
void ignore_free(const volatile void*) {}
const int hooks = __sanitizer_install_malloc_and_free_hooks(count_malloc, ignore_free);

}  // namespace

#elif defined(__GLIBC__)

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) { return ++allocations, __libc_malloc(size); }
void* calloc(std::size_t count, std::size_t size) { return ++allocations, __libc_calloc(count, size); }
void* realloc(void* block, std::size_t size) { return ++allocations, __libc_realloc(block, size); }
void* memalign(std::size_t alignment, std::size_t size) { return ++allocations, __libc_memalign(alignment, size); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return memalign(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  *block = memalign(alignment, size);
  return *block == nullptr ? 12 : 0;  // ENOMEM
}
}

#else

void* operator new(std::size_t size) {
  ++allocations;
  if (void* block = std::malloc(size)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

#endif

namespace {

template <class Call>
long allocations_of(const Call& call) {
  const long before = allocations;
  call();
  return allocations - before;
}

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;

// Counts over two rounds after the first.
template <class Layer, class Tensor>
long allocations_after_the_first(Layer& bn, const Tensor& x, const Tensor& dy, Tensor& out) {
  const Eigen::DefaultDevice device;
  const auto round = [&] {
    bn.train();
    bn.forward(x, out);
    bn.backward(x, dy, out);
    bn.forward(device, x, out);
    bn.backward(device, x, dy, out);
    bn.infer(x, out);
    bn.infer(device, x, out);
    bn.zero_grad();
    bn.eval();
    bn.forward(x, out);
    bn.backward(device, x, dy, out);
    out = x;  // of the same size: no allocation either
    bn.forward(device, out, out);
    bn.forward(x, Eigen::TensorMap<Tensor>(out.data(), out.dimensions()));
  };
  round();
  return allocations_of([&] { round(), round(); });
}

}  // namespace

TEST_CASE("the count sees operator new and Eigen's allocator") {
  CHECK(allocations_of([] { delete new volatile int(1); }) >= 1);
  CHECK(allocations_of([] {
          void* volatile memory = std::malloc(7);  // volatile: or the compiler leaves both out
          std::free(memory);
        }) >= 1);
  CHECK(allocations_of([] { Eigen::Tensor<float, 1>(100).setZero(); }) >= 1);
  CHECK(allocations_of([] {}) == 0);
}

TEMPLATE_TEST_CASE_SIG("calls into the caller's memory allocate nothing after the first with a shape", "",
                       ((typename T, int Layout), T, Layout), (float, Eigen::RowMajor), (float, Eigen::ColMajor),
                       (double, Eigen::RowMajor), (long double, Eigen::ColMajor)) {
  using Tensor = Eigen::Tensor<T, 3, Layout>;
  // Small and large, rows and columns, channels first and last, and more channels than any fixed buffer would hold.
  for (const auto& shape : {std::array<Eigen::Index, 3>{2, 3, 4}, {4, 3, 50000}, {5000, 3, 7}, {2, 3000, 5}}) {
    for (const int axis : {0, 1, 2}) {
      const Eigen::Index channels = shape[static_cast<std::size_t>(axis)];
      Tensor x(shape), dy(shape), out(shape);
      for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(i % 17), dy.data()[i] = T(i % 5);
      for (const bool track : {true, false}) {
        for (const bool check : {false, true}) {
          BatchNorm<T, 3> bn(BatchNormOptions(channels).channel_axis(axis).track_running_stats(track));
          bn.check_backward(check);
          CHECK(allocations_after_the_first(bn, x, dy, out) == 0);
        }
      }
    }
  }
}

TEMPLATE_TEST_CASE("calls on blocks of matrices allocate nothing after the first with a shape", "",
                   (Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>), Eigen::MatrixXf,
                   Eigen::MatrixXd) {
  using T = typename TestType::Scalar;
  // Whole, in columns of few and of many samples, and in rows of few and of many channels.
  for (const auto& [samples, channels] :
       {std::pair<Eigen::Index, Eigen::Index>{4, 3}, {7, 3000}, {300, 5}, {300, 200}}) {
    TestType x = TestType::Random(samples + 2, channels + 2), out = x;
    for (const bool track : {true, false}) {
      BatchNorm<T, 2> bn(BatchNormOptions(channels).track_running_stats(track));
      CHECK(allocations_of(
                [&, m = samples, n = channels] { bn.infer(x.topLeftCorner(m, n), out.topRightCorner(m, n)); }) == 0);
      const auto round = [&, m = samples, n = channels] {
        bn.train().forward(x.topLeftCorner(m, n), out.bottomRightCorner(m, n));
        bn.backward(x.topLeftCorner(m, n), x.topRightCorner(m, n), out.topLeftCorner(m, n));
        bn.eval().forward(x.topLeftCorner(m, n), out.bottomRightCorner(m, n));
        bn.backward(x.topLeftCorner(m, n), x.topRightCorner(m, n), out.topLeftCorner(m, n));
        bn.forward(out.topLeftCorner(m, n), out.topLeftCorner(m, n));
      };
      round();
      CHECK(allocations_of([&] { round(), round(); }) == 0);
    }
  }
}

TEST_CASE("fused calls allocate nothing after the first with a shape") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  for (const auto& shape : {std::array<Eigen::Index, 3>{2, 3, 4}, {64, 3, 1000}, {2, 3000, 5}}) {
    Tensor x(shape), r(shape), dy(shape), y(shape), dx(shape), dr(shape);
    for (auto* tensor : {&x, &r, &dy}) tensor->setRandom();
    BatchNorm<float, 3> bn(BatchNormOptions(shape[1]).activation(batchnorm::Activation::leaky_relu(0.5)));
    const auto round = [&] {
      bn.forward(x, y, batchnorm::residual(r));
      bn.backward(x, dy, dx, batchnorm::output(y), batchnorm::residual_grad(dr));
      bn.forward(x, y);
      bn.backward(x, dy, dx);
      bn.backward_from_output(y, dy, dx);
    };
    round();
    CHECK(allocations_of([&] { round(), round(); }) == 0);
    CHECK(allocations_of([&] { bn.infer(x, y, batchnorm::residual(r)); }) == 0);
  }
}

TEST_CASE(
    "calls with weights, ghost batches and parameters of their own allocate nothing after the first with a shape") {
  using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  Tensor x(6, 5, 4, 7), dy(6, 5, 4, 7), y(6, 5, 4, 7), dx(6, 5, 4, 7);
  x.setRandom();
  dy.setRandom();
  const Eigen::VectorXf w = Eigen::VectorXf::Constant(6, 0.75f);
  const Eigen::MatrixXf weight = Eigen::MatrixXf::Random(6, 5), bias = Eigen::MatrixXf::Random(6, 5);
  Eigen::MatrixXf dweight(6, 5), dbias(6, 5);
  const auto options = BatchNormOptions(5).virtual_batch_size(4).renorm(2, 1);
  BatchNorm<float, 4> plain(options), weighted(options), mixed(5);
  mixed.normalize_with(batchnorm::Statistics::mixed(3));
  const auto round = [&] {
    plain.forward(x, y);
    plain.backward(x, dy, dx);
    mixed.forward(x, y);
    mixed.backward(x, dy, dx);
    weighted.forward(x, y, batchnorm::sample_weight(w), batchnorm::affine(weight, bias));
    weighted.backward(x, dy, dx, batchnorm::sample_weight(w), batchnorm::affine(weight, bias),
                      batchnorm::affine_grad(dweight, dbias));
  };
  round();
  CHECK(allocations_of([&] { round(), round(); }) == 0);
}

TEST_CASE("infer allocates nothing of its own, not even the first time") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  for (const auto& shape : {std::array<Eigen::Index, 3>{2, 3, 4}, {64, 3, 1000}, {2, 3000, 5}}) {
    Tensor x(shape), y(shape);
    x.setConstant(3);
    const BatchNorm<float, 3> bn(shape[1]);
    CHECK(allocations_of([&] { bn.infer(x, y); }) == 0);
    CHECK(allocations_of([&] { bn.infer(Eigen::DefaultDevice(), x, y); }) == 0);
    CHECK(allocations_of([&] { const auto z = bn.infer(x); }) == 1);  // the result
  }
}

TEST_CASE(
    "the second call with a shape allocates nothing, be it a forward's or a backward's, with the check on or off") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Tensor x(64, 3, 1000), y(64, 3, 1000), dx(64, 3, 1000);
  x.setRandom();
  for (const bool check : {false, true}) {
    BatchNorm<float, 3> bn(3);
    bn.check_backward(check);
    bn.forward(x, y);
    CHECK(allocations_of([&] { bn.forward(x, y); }) == 0);
    bn.backward(x, x, dx);
    CHECK(allocations_of([&] { bn.backward(x, x, dx); }) == 0);
    CHECK(allocations_of([&] { bn.forward(x, y), bn.backward(x, x, dx); }) == 0);
  }
}

TEST_CASE("on a pool of threads infer allocates nothing, not even the first time that a thread calls it") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Eigen::ThreadPool pool(4);
  const Eigen::ThreadPoolDevice device(&pool, 4);
  Tensor x(64, 64, 500), y(64, 64, 500);  // 8 MiB, work for all of them
  x.setConstant(3);
  const BatchNorm<float, 3> bn(64);
  for (int i = 0; i < 4; ++i) {
    std::thread([&] {
      CHECK(allocations_of([&] { bn.infer(device, x, y); }) == 0);
      CHECK(allocations_of([&] { bn.infer(device, x, x); }) == 0);
    }).join();
  }
}

TEST_CASE("on a pool that is busy elsewhere infer allocates nothing either, however many calls its threads miss") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  Tensor x(64, 64, 500), y(64, 64, 500);
  x.setConstant(3);
  const BatchNorm<float, 3> bn(64);
  std::atomic<bool> release{false};
  for (int i = 0; i < 2; ++i) {
    pool.Schedule([&release] {
      while (!release) std::this_thread::yield();
    });
  }
  CHECK(allocations_of([&] {
          for (int call = 0; call < 20; ++call) bn.infer(device, x, y);
        }) == 0);
  release = true;
}

TEST_CASE("training on a pool of threads allocates nothing after the first calls with a shape") {
  using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;
  Eigen::ThreadPool pool(4);
  const Eigen::ThreadPoolDevice device(&pool, 4);
  Tensor x(64, 64, 500), y(64, 64, 500), dx(64, 64, 500);
  x.setRandom();
  for (const bool check : {false, true}) {
    BatchNorm<float, 3> bn(64);
    bn.check_backward(check);
    const auto round = [&] {
      bn.forward(device, x, y);
      bn.backward(device, x, x, dx);
    };
    round();
    CHECK(allocations_of([&] { round(), round(); }) == 0);
  }
}
