// OpenMP's threads as a device. The header comes first: it has to compile alone.

#include <batchnorm/openmp.hpp>
//
#include <omp.h>
#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fragile.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::OpenMPDevice;
using Tensor = Eigen::Tensor<float, 3, Eigen::RowMajor>;

// Each is large enough for seven threads of a device whose threads are awake; rows, columns, and two channels alone.
const std::vector<std::array<Eigen::Index, 3>> shapes = {{32, 40, 196}, {3, 2, 50001}, {9000, 37, 1}};

Tensor values(const std::array<Eigen::Index, 3>& shape, std::uint64_t seed) {
  Random random(seed);
  Tensor tensor(shape);
  for (Eigen::Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<float>(random.uniform(-1, 3));
  return tensor;
}

// All that training and inference compute on the device, number after number.
template <class Device>
std::vector<float> results_on(const Device& device, const std::array<Eigen::Index, 3>& shape) {
  const Tensor x = values(shape, 61), dy = values(shape, 62);
  BatchNorm<float, 3> bn(shape[1]);
  std::vector<float> all;
  const auto add = [&](const auto& tensor) { all.insert(all.end(), tensor.data(), tensor.data() + tensor.size()); };
  Tensor y(shape), dx(shape), z(shape);
  bn.forward(device, x, y);
  bn.backward(device, x, dy, dx);
  bn.infer(device, x, z);
  add(y), add(dx), add(z);
  for (const auto* vector : {&bn.running_mean(), &bn.running_var(), &bn.weight_grad(), &bn.bias_grad()}) add(*vector);
  return all;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Which thread each index of a parallelFor over n of them ran on, and how often it ran.
struct Visits {
  Visits(const OpenMPDevice& device, Eigen::Index n)
      : thread(static_cast<std::size_t>(n), -1), times(static_cast<std::size_t>(n), 0) {
    device.parallelFor(n, Eigen::TensorOpCost(1, 1, 1), [&](Eigen::Index first, Eigen::Index last) {
      for (; first < last; ++first) {
        thread[static_cast<std::size_t>(first)] = omp_get_thread_num();
        ++times[static_cast<std::size_t>(first)];
      }
    });
  }
  std::vector<int> thread, times;
};

}  // namespace

TEST_CASE("the same bits on 1 to 7 threads of OpenMP as without any") {
  for (const auto& shape : shapes) {
    const auto expected = results_on(Eigen::DefaultDevice(), shape);
    for (int threads = 1; threads <= 7; ++threads) {
      INFO(shape[0] << " x " << shape[1] << " x " << shape[2] << ", " << threads << " threads");
      CHECK(same_bits(results_on(OpenMPDevice(threads), shape), expected));
    }
    CHECK(same_bits(results_on(OpenMPDevice(), shape), expected));
  }
}

TEST_CASE("an OpenMP device has the threads that OpenMP would use, or those it is told") {
  const int before = omp_get_max_threads();
  omp_set_num_threads(3);
  CHECK(OpenMPDevice().numThreads() == 3);
  CHECK(OpenMPDevice(5).numThreads() == 5);
  CHECK(OpenMPDevice().currentThreadId() == -1);
  omp_set_num_threads(before);
  CHECK_THROWS_AS(OpenMPDevice(0), std::invalid_argument);
  CHECK_THROWS_AS(OpenMPDevice(-2), std::invalid_argument);
}

TEST_CASE("an OpenMP device runs each index once, and always on the same of its threads") {
  const int dynamic = omp_get_dynamic();
  omp_set_dynamic(0);  // no fewer threads than asked for
  const OpenMPDevice device(4);
  for (const Eigen::Index n : {0, 1, 2, 4, 11}) {
    const Visits visits(device, n);
    for (std::size_t i = 0; i < visits.times.size(); ++i) {
      INFO("index " << i << " of " << n);
      CHECK(visits.times[i] == 1);
      CHECK(visits.thread[i] == static_cast<int>(i % 4));
    }
  }
  omp_set_dynamic(dynamic);
}

TEST_CASE("a layer may be called from within a parallel region, where an OpenMP device is the calling thread alone") {
  const auto expected = results_on(Eigen::DefaultDevice(), shapes[0]);
  const int levels = omp_get_max_active_levels(), dynamic = omp_get_dynamic();
  omp_set_max_active_levels(3);  // a region within a region would have threads
  omp_set_dynamic(0);
  constexpr int callers = 3;
  std::vector<std::vector<float>> results(callers);
  std::vector<int> threads(callers), ids(callers), strangers(callers);
#pragma omp parallel num_threads(callers)
  {
    const int own = omp_get_thread_num();
    const auto at = static_cast<std::size_t>(own);
    const OpenMPDevice device(4);
    threads[at] = device.numThreads();
    ids[at] = device.currentThreadId();
    results[at] = results_on(device, shapes[0]);
    const Visits visits(device, 8);
    strangers[at] = static_cast<int>(
        std::count_if(visits.thread.begin(), visits.thread.end(), [&](int thread) { return thread != own; }));
  }
  omp_set_max_active_levels(levels);
  omp_set_dynamic(dynamic);
  CHECK(threads == std::vector<int>{1, 1, 1});
  CHECK(ids == std::vector<int>{0, 1, 2});
  CHECK(strangers == std::vector<int>{0, 0, 0});
  for (const auto& result : results) CHECK(same_bits(result, expected));
}

TEST_CASE("an exception on any thread of an OpenMP device reaches the caller") {
  const OpenMPDevice device(4);
  for (Eigen::Index thrower = 0; thrower < 6; ++thrower) {
    const auto throws_at_one = [thrower](Eigen::Index first, Eigen::Index) {
      if (first == thrower) throw std::overflow_error("expected");
    };
    CHECK_THROWS_AS(device.parallelFor(6, Eigen::TensorOpCost(1, 1, 1), throws_at_one), std::overflow_error);
  }
  const auto throws_always = [](Eigen::Index, Eigen::Index) { throw std::overflow_error("expected"); };
  CHECK_THROWS_AS(device.parallelFor(6, Eigen::TensorOpCost(1, 1, 1), throws_always), std::overflow_error);
}

TEST_CASE("an exception in any pass of a layer on an OpenMP device reaches the caller and leaves the layer usable") {
  using fragile::Fragile;
  using Numbers = Eigen::Tensor<Fragile, 3>;
  Random random(63);
  Numbers x(2, 3, 40000), dy(2, 3, 40000), out(2, 3, 40000), expected(2, 3, 40000);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = random.uniform(-1, 3);
    dy.data()[i] = random.uniform(-1, 1);
  }
  constexpr long plenty = 1L << 40;
  Fragile::multiplications_left = plenty;
  const OpenMPDevice device(3);
  BatchNorm<Fragile, 3> bn(3);
  bn.forward(x, out);
  const auto check = [&](const auto& work) {
    Fragile::multiplications_left = plenty;
    work(Eigen::DefaultDevice(), expected);
    const long needed = plenty - Fragile::multiplications_left;
    for (int part = 1; part < 8; ++part) {
      Fragile::multiplications_left = needed * part / 8;
      CHECK_THROWS_AS(work(device, out), std::overflow_error);
      Fragile::multiplications_left = plenty;
      work(device, out);
      CHECK(std::equal(out.data(), out.data() + out.size(), expected.data()));
    }
  };
  check([&](const auto& on, auto& result) { bn.forward(on, x, result); });
  check([&](const auto& on, auto& result) { bn.backward(on, x, dy, result); });
  check([&](const auto& on, auto& result) { bn.infer(on, x, result); });
}

TEST_CASE("expressions are evaluated on the calling thread of an OpenMP device") {
  const Tensor x = values(shapes[0], 64);
  BatchNorm<float, 3> bn(shapes[0][1]), reference(shapes[0][1]);
  const Tensor y = bn.forward(OpenMPDevice(4), x + x), expected = reference.forward(x + x);
  CHECK(std::memcmp(y.data(), expected.data(), static_cast<std::size_t>(y.size()) * sizeof(float)) == 0);
}
