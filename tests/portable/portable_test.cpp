// The kernels where there are no registers to name: as plain loops (BATCHNORM_PORTABLE), on other processors, and on
// another operating system. Without Catch2, so that a cross compiler can build it.
//
//   portable_test [exact | threads] [baseline | avx2 | avx512]
//
// exact: forward, inference and backward beside the oracle, for every regime of shapes. threads: the same bits with any
// number of threads. Without a word, both. The last word is the instruction set that has to be in use; where the
// processor lacks it, the program ends with 77, which ctest shows as skipped.

#define EIGEN_USE_THREADS
#include <algorithm>
#include <array>
#include <batchnorm/batchnorm.hpp>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "../oracle.hpp"

namespace {

using Shape = std::array<int, 3>;

int failures = 0;

void fail(const std::string& what) {
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

void check(const std::string& what, long double error, long double bound) {
  if (error <= bound) return;  // also false for NaN
  char text[80];               // no long double goes to printf: Windows' own takes it for a double
  std::snprintf(text, sizeof text, " is off by %g, allowed are %g", static_cast<double>(error),
                static_cast<double>(bound));
  fail(what + text);
}

template <class T>
long double real(const T& value) {
  if constexpr (std::is_same_v<T, double>) {
    return value;
  } else {
    return static_cast<float>(value);
  }
}

template <class T>
T number(float value) {
  return static_cast<T>(value);
}

std::string text_of(const Shape& shape) {
  const auto& [n, c, s] = shape;
  return "[" + std::to_string(n) + ", " + std::to_string(c) + ", " + std::to_string(s) + "]";
}

template <class T>
long double error(const Eigen::Tensor<T, 3, Eigen::RowMajor>& found, const oracle::Reals& exact) {
  long double most = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    const long double one = std::fabs(real(found.data()[i]) - exact[i]);
    if (!(one <= most)) most = one;  // NaN stays
  }
  return most;
}

// `bound`: half a unit in the last place of T for what is rounded to it, and as much again for what led to it; relative
// to the largest y, and for dx to the largest dy / std, before what it is the difference of cancels.
template <class T>
void compare(const std::string& name, long double bound) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-1, 1);
  // Rows, columns of short rows, channels-last, fewer elements than a register, a ragged everything.
  for (const auto& shape :
       {Shape{3, 5, 300}, Shape{9, 7, 49}, Shape{33, 70, 1}, Shape{2, 3, 1}, Shape{1, 2, 1000}, Shape{5, 3, 17}}) {
    const auto& [n, c, s] = shape;
    Eigen::Tensor<T, 3, Eigen::RowMajor> x(n, c, s), dy(n, c, s);
    oracle::Reals exact_x, exact_dy;
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      x.data()[i] = number<T>(uniform(random) + 2.0F);
      dy.data()[i] = number<T>(uniform(random));
      exact_x.push_back(real(x.data()[i]));
      exact_dy.push_back(real(dy.data()[i]));
    }
    const oracle::Geometry geometry{{n, c, s}, true, 1};
    oracle::Layer exact({}, c);
    const auto exact_y = exact.forward(geometry, exact_x), exact_dx = exact.backward(geometry, exact_x, exact_dy),
               exact_z = exact.infer(geometry, exact_x);
    batchnorm::BatchNorm<T, 3> bn(c);
    const auto y = bn.forward(x);
    const auto dx = bn.backward(x, dy);
    const auto z = bn.infer(x);
    const std::string which = name + " " + text_of(shape) + " ";
    long double largest_y = 0, largest_z = 0, largest_dy = 0;
    oracle::for_each_element(geometry, [&](std::size_t channel, std::size_t i) {
      largest_y = std::max(largest_y, std::fabs(exact_y[i]));
      largest_z = std::max(largest_z, std::fabs(exact_z[i]));
      largest_dy = std::max(largest_dy, std::fabs(exact_dy[i]) * exact.inv_std(channel));
    });
    check(which + "y", error(y, exact_y) / largest_y, bound);
    check(which + "inference", error(z, exact_z) / largest_z, bound);
    check(which + "dx", error(dx, exact_dx) / largest_dy, bound);
    for (int channel = 0; channel < c; ++channel) {
      const auto at = static_cast<std::size_t>(channel);
      const auto differ = [&](const auto& found, const oracle::Reals& wanted) {
        return std::fabs(real(found(channel)) - wanted[at]) / std::max(1.0L, std::fabs(wanted[at]));
      };
      check(which + "weight_grad", differ(bn.weight_grad(), exact.weight_grad), 1e-5L);
      check(which + "bias_grad", differ(bn.bias_grad(), exact.bias_grad), 1e-5L);
      check(which + "running_mean", differ(bn.running_mean(), exact.running_mean), 1e-6L);
      check(which + "running_var", differ(bn.running_var(), exact.running_var), 1e-6L);
    }
  }
}

void exact() {
  compare<float>("float", 3e-7L);
  compare<double>("double", 5e-14L);
  compare<Eigen::half>("half", 4.9e-4L);
  compare<Eigen::bfloat16>("bfloat16", 3.92e-3L);
}

// A device of the caller's own: a thread for each index.
struct ThreadsOfOurOwn {
  int numThreads() const { return count; }
  int currentThreadId() const { return -1; }
  template <class Function>
  void parallelFor(Eigen::Index n, const Eigen::TensorOpCost&, const Function& function) const {
    most = std::max(most, n);
    std::vector<std::thread> threads;
    for (Eigen::Index i = 0; i < n; ++i) threads.emplace_back([&function, i] { function(i, i + 1); });
    for (auto& thread : threads) thread.join();
  }

  int count;
  mutable Eigen::Index most = 0;
};

// Everything that training, inference and work in place compute, byte after byte, with the tensors so many elements
// after an aligned address.
template <class T, class Device>
std::vector<unsigned char> results_on(const Device& device, const Shape& shape, std::size_t misalignment = 0) {
  using Map = Eigen::TensorMap<Eigen::Tensor<T, 3, Eigen::RowMajor>>;
  const auto& [n, c, s] = shape;
  const auto size = static_cast<std::size_t>(n) * static_cast<std::size_t>(c) * static_cast<std::size_t>(s);
  std::vector<T> x(size + 16), dy(size + 16), out(size + 16);
  std::mt19937 random(51);
  for (std::size_t i = 0; i < size; ++i) {
    // Of the generator's numbers alone: a distribution of the standard library's differs from one to the next.
    x[misalignment + i] = number<T>(static_cast<float>(random() % 4096) / 1024 - 1);
    dy[misalignment + i] = number<T>(static_cast<float>(random() % 4096) / 2048 - 1);
  }
  const Map x_map(x.data() + misalignment, n, c, s), dy_map(dy.data() + misalignment, n, c, s);
  Map out_map(out.data() + misalignment, n, c, s);
  batchnorm::BatchNorm<T, 3> bn(c);
  std::vector<unsigned char> bytes;
  const auto add = [&](const T* values, std::size_t count) {
    const auto* first = reinterpret_cast<const unsigned char*>(values);
    bytes.insert(bytes.end(), first, first + count * sizeof(T));
  };
  bn.forward(device, x_map, out_map);
  add(out_map.data(), size);
  bn.backward(device, x_map, dy_map, out_map);
  add(out_map.data(), size);
  bn.infer(device, x_map, out_map);
  add(out_map.data(), size);
  std::copy_n(x_map.data(), size, out_map.data());
  bn.forward(device, out_map, out_map);
  add(out_map.data(), size);
  for (const auto* vector : {&bn.running_mean(), &bn.running_var(), &bn.weight_grad(), &bn.bias_grad()}) {
    const std::vector<T> values(vector->data(), vector->data() + vector->size());
    add(values.data(), values.size());
  }
  return bytes;
}

template <class T>
void same_bits(const std::string& name) {
  // Rows, columns of short rows, channels-last, few long rows: of each so much that several threads have work.
  for (const auto& shape : {Shape{32, 16, 301}, Shape{400, 9, 37}, Shape{2100, 70, 1}, Shape{2, 3, 24001}}) {
    const std::string which = name + " " + text_of(shape) + " differs with ";
    const auto expected = results_on<T>(Eigen::DefaultDevice(), shape);
    for (const int count : {2, 3, 7}) {
      Eigen::ThreadPool pool(count);
      if (results_on<T>(Eigen::ThreadPoolDevice(&pool, count), shape) != expected) {
        fail(which + std::to_string(count) + " threads of a pool");
      }
      const ThreadsOfOurOwn threads{count};
      if (results_on<T>(threads, shape) != expected) fail(which + std::to_string(count) + " threads of our own");
      if (threads.most < 2) fail(name + " " + text_of(shape) + " was left to one thread");
    }
    for (const std::size_t misalignment : {1, 3, 8}) {
      if (results_on<T>(ThreadsOfOurOwn{3}, shape, misalignment) != expected) {
        fail(which + "memory " + std::to_string(misalignment) + " elements after an aligned address");
      }
    }
  }
}

// The threads decide which channels make up a block, and so where in a register a channel's values come to lie and by
// which of a kernel's loops they are summed.
template <class T>
void same_sums_in_any_block(const std::string& name) {
  using Tensor = Eigen::Tensor<T, 3, Eigen::RowMajor>;
  constexpr Eigen::Index rows = 100, channels = 90;
  for (const Eigen::Index inner : {1, 2, 3, 7, 15, 20, 49}) {
    Tensor x(rows, channels, inner), dy(rows, channels, inner);
    std::mt19937 random(52);
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      x.data()[i] = number<T>(static_cast<float>(random() % 65536) / 16384 - 1);
      dy.data()[i] = number<T>(static_cast<float>(random() % 65536) / 32768 - 1);
    }
    // Mean, 1 / deviation and gradients of `count` channels from `first` on.
    const auto sums_of = [&](Eigen::Index first, Eigen::Index count) {
      const Eigen::array<Eigen::Index, 3> from = {0, first, 0}, size = {rows, count, inner};
      const Tensor some_x = x.slice(from, size), some_dy = dy.slice(from, size);
      batchnorm::BatchNorm<T, 3> bn(count);
      bn.forward(some_x);
      bn.backward(some_x, some_dy);
      const auto& saved = bn.saved_statistics();
      const auto sums = batchnorm::accumulate_gradients(some_x, some_dy, 1, saved.mean(), saved.mean_residual());
      std::vector<std::array<double, 4>> result;
      for (Eigen::Index c = 0; c < count; ++c) {
        result.push_back({saved.mean()(c), saved.inv_std()(c), sums.dy(c), sums.dy_centered(c)});
      }
      return result;
    };
    const auto expected = sums_of(0, channels);
    for (const Eigen::Index first : {0, 1, 3, 11}) {
      for (const Eigen::Index count : {64, 65, 71, 79}) {
        if (!std::equal(expected.begin() + first, expected.begin() + first + count, sums_of(first, count).begin())) {
          fail(name + ", rows of " + std::to_string(inner) + ": the sums of " + std::to_string(count) +
               " channels from the " + std::to_string(first) + "th on differ");
        }
      }
    }
  }
}

template <class T>
void threads_of(const std::string& name) {
  same_bits<T>(name);
  same_sums_in_any_block<T>(name);
}

void threads() {
  threads_of<float>("float");
  threads_of<double>("double");
  threads_of<Eigen::half>("half");
  threads_of<Eigen::bfloat16>("bfloat16");
}

// Runs `work` with so many bytes more on the stack: what GCC thinks is aligned to 32 or 64 bytes on Windows' stack,
// which is aligned to 16, is so at some of these distances alone.
#if defined(__GNUC__)
__attribute__((noinline)) void deeper(std::size_t bytes, void (*work)()) {
  volatile char* const space = static_cast<volatile char*>(__builtin_alloca(bytes));
  space[0] = 0;
  work();
  space[0] = 1;
}
#else
void deeper(std::size_t, void (*work)()) { work(); }
#endif

bool has_isa(const std::string& wanted) {
  using batchnorm::detail::best_isa, batchnorm::detail::Isa;
  return best_isa() == (wanted == "avx512" ? Isa::avx512 : wanted == "avx2" ? Isa::avx2 : Isa::baseline);
}

}  // namespace

int main(int count, char** words) {
  const std::string what = count > 1 ? words[1] : "", isa = count > 2 ? words[2] : "";
  if (!isa.empty() && !has_isa(isa)) {
    std::printf("skipped: %s is not in use here\n", isa.c_str());
    return 77;
  }
  if (what != "threads") {
#ifdef _WIN32
    for (const std::size_t bytes : {16, 32, 48}) deeper(bytes, exact);
#endif
    deeper(64, exact);
  }
  if (what != "exact") threads();
  std::printf("%d failures\n", failures);
  return failures == 0 ? 0 : 1;
}
