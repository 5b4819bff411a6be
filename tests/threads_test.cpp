// Results on the caller's threads: the same bits for any number of threads and for any alignment of the memory.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fragile.hpp"
#include "snapshot.hpp"

namespace {

using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;

struct Threads {
  explicit Threads(int count) : pool(count), device(&pool, count) {}
  Eigen::ThreadPool pool;
  Eigen::ThreadPoolDevice device;
};

// Everything that training, inference and work in place compute, byte after byte.
template <typename T>
struct Data {
  explicit Data(const oracle::Geometry& g) : geometry(g) {
    Random random(51);
    x = random.tensor<T>(g);
    dy = random.vector<T>(x.size(), -1, 1);
  }
  oracle::Geometry geometry;
  std::vector<T> x, dy;
};

template <typename T, int Layout, class Device>
std::vector<unsigned char> results_on(const Device& device, const Data<T>& data, std::size_t misalignment = 0) {
  using Tensor = Eigen::Tensor<T, 3, Layout>;
  using Map = Eigen::TensorMap<Tensor>;
  const auto& g = data.geometry;
  const std::size_t size = data.x.size();
  std::vector<T> x(size + 16), dy(size + 16), out(size + 16);
  // Each tensor at its own distance from an aligned address.
  const std::size_t x_at = misalignment, dy_at = misalignment * 3 % 16, out_at = misalignment * 7 % 16;
  std::copy(data.x.begin(), data.x.end(), x.data() + x_at);
  std::copy(data.dy.begin(), data.dy.end(), dy.data() + dy_at);

  BatchNorm<T, 3> bn(BatchNormOptions(g.channels()).channel_axis(g.axis));
  const auto map = [&](std::vector<T>& values, std::size_t at) {
    return Map(values.data() + at, g.extents[0], g.extents[1], g.extents[2]);
  };
  const auto x_map = map(x, x_at), dy_map = map(dy, dy_at);
  std::vector<unsigned char> bytes;
  bytes.reserve((6 * size + 4 * static_cast<std::size_t>(g.channels())) * sizeof(T));
  const auto add = [&](const T* values, std::size_t count) {
    const auto* first = reinterpret_cast<const unsigned char*>(values);
    bytes.insert(bytes.end(), first, first + count * sizeof(T));
  };
  const auto add_output = [&] { add(out.data() + out_at, size); };
  bn.forward(device, x_map, map(out, out_at));
  add_output();
  bn.backward(device, x_map, dy_map, map(out, out_at));
  add_output();
  bn.infer(device, x_map, map(out, out_at));
  add_output();
  bn.eval();
  bn.forward(device, x_map, map(out, out_at));
  bn.backward(device, x_map, dy_map, map(out, out_at));
  add_output();
  bn.train();
  std::copy(data.x.begin(), data.x.end(), out.data() + out_at);
  bn.forward(device, map(out, out_at), map(out, out_at));  // in place
  add_output();
  std::copy(data.dy.begin(), data.dy.end(), out.data() + out_at);
  bn.backward(device, x_map, map(out, out_at), map(out, out_at));
  add_output();
  for (const auto* vector : {&bn.running_mean(), &bn.running_var(), &bn.weight_grad(), &bn.bias_grad()}) {
    add(vector->data(), static_cast<std::size_t>(vector->size()));
  }
  return bytes;
}

// Shapes that are cut in every way: rows and columns, few channels and many, one block and several, small and so large
// that seven threads are worth their waking.
std::vector<oracle::Geometry> shapes(bool row_major) {
  return {
      {{3, 5, 7}, row_major, 1},      {{3, 2, 170001}, row_major, 1}, {{170001, 3, 2}, row_major, 1},
      {{32, 160, 196}, row_major, 1}, {{30, 700, 49}, row_major, 1},  {{300, 49, 70}, row_major, 2},
      {{30000, 1, 37}, row_major, 2}, {{2, 6000, 90}, row_major, 1},  {{1, 350000, 3}, row_major, 2},
      {{37, 30000, 1}, row_major, 0}, {{900, 3, 370}, row_major, 1},  {{2200, 20, 16}, row_major, 1},
  };
}

}  // namespace

TEMPLATE_TEST_CASE_SIG("the same bits with 1, 2, 3, 4 and 7 threads as without any", "[large]",
                       ((typename T, int Layout), T, Layout), (float, Eigen::RowMajor), (double, Eigen::ColMajor)) {
  std::vector<std::unique_ptr<Threads>> pools;
  for (const int count : {1, 2, 3, 4, 7}) pools.push_back(std::make_unique<Threads>(count));
  for (const auto& geometry : shapes(Layout == Eigen::RowMajor)) {
    const Data<T> data(geometry);
    const auto expected = results_on<T, Layout>(Eigen::DefaultDevice(), data);
    for (const auto& threads : pools) {
      INFO(geometry << ", " << threads->device.numThreads() << " threads");
      CHECK((results_on<T, Layout>(threads->device, data) == expected));
    }
  }
}

TEMPLATE_TEST_CASE("sums that had to be taken anew have the same bits with any number of threads", "", float, double) {
  // In every third channel a few values, among them those by which the origin of its sums is chosen, lie far from the
  // rest; in another third the squares leave float's range.
  Threads two(2), seven(7);
  for (const auto& geometry : {oracle::Geometry{{3, 2, 170001}, true, 1}, oracle::Geometry{{170001, 3, 2}, true, 1},
                               oracle::Geometry{{900, 3, 370}, true, 1}, oracle::Geometry{{300, 1500, 1}, true, 1}}) {
    Data<TestType> data(geometry);
    const std::int64_t outer = geometry.extents[0], inner = geometry.extents[2];
    const auto is_an_eighth = [](std::int64_t i, std::int64_t n) { return (8 * i + 7) / n * n / 8 == i; };
    oracle::for_each_element(geometry, [&](std::size_t c, std::size_t i) {
      const auto at = static_cast<std::int64_t>(i);
      const bool spoils = is_an_eighth(at / inner / geometry.channels(), outer) && is_an_eighth(at % inner, inner);
      if (c % 3 == 0 && spoils) data.x[i] = TestType(1e5);
      if (c % 3 == 1) data.x[i] *= TestType(1e30);
    });
    const auto expected = results_on<TestType, Eigen::RowMajor>(Eigen::DefaultDevice(), data);
    INFO(geometry);
    CHECK((results_on<TestType, Eigen::RowMajor>(two.device, data) == expected));
    CHECK((results_on<TestType, Eigen::RowMajor>(seven.device, data) == expected));
  }
}

TEST_CASE("results so large that they go past the cache have the same bits with any number of threads", "[large]") {
  Threads two(2), five(5), forty(40);
  // More than 8 MiB of float: for a backward, work for more threads than have a share of their own.
  for (const auto& geometry : {oracle::Geometry{{7, 3, 100003}, true, 1}, oracle::Geometry{{60001, 1, 37}, true, 2}}) {
    const Data<float> data(geometry);
    const auto expected = results_on<float, Eigen::RowMajor>(Eigen::DefaultDevice(), data);
    INFO(geometry);
    CHECK((results_on<float, Eigen::RowMajor>(two.device, data) == expected));
    CHECK((results_on<float, Eigen::RowMajor>(five.device, data, 3) == expected));
    CHECK((results_on<float, Eigen::RowMajor>(forty.device, data) == expected));
  }
}

TEMPLATE_TEST_CASE_SIG("the same bits for any alignment of the maps", "", ((typename T, int Layout), T, Layout),
                       (float, Eigen::RowMajor), (double, Eigen::ColMajor)) {
  Threads threads(3);
  const bool row_major = Layout == Eigen::RowMajor;
  std::vector<oracle::Geometry> geometries = {
      {{2, 3, 1000}, row_major, 1}, {{300, 3, 37}, row_major, 2}, {{300, 3, 37}, row_major, 0},
      {{9, 16, 196}, row_major, 1}, {{9, 5, 300}, row_major, 1},
  };
  for (std::int64_t length = 1; length <= 40; ++length) {
    geometries.push_back({{9, 3, length}, row_major, 1});
    geometries.push_back({{length, 3, 9}, row_major, 1});
  }
  for (const auto& geometry : geometries) {
    const Data<T> data(geometry);
    const auto expected = results_on<T, Layout>(Eigen::DefaultDevice(), data);
    std::size_t different = 0;
    for (std::size_t misalignment = 1; misalignment < 16; ++misalignment) {
      different += results_on<T, Layout>(Eigen::DefaultDevice(), data, misalignment) != expected;
    }
    INFO(geometry);
    CHECK(different == 0);
    CHECK((results_on<T, Layout>(threads.device, data, 5) == expected));
  }
}

// The threads decide which channels make up a block, and so where in a pack a channel's values come to lie.
TEMPLATE_TEST_CASE("a channel's sums have the same bits in any block of channels", "", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using Tensor = Eigen::Tensor<TestType, 3, Eigen::RowMajor>;
  constexpr Eigen::Index rows = 100, channels = 90;
  for (const Eigen::Index inner : {1, 2, 3, 7, 15, 20, 49}) {
    const oracle::Geometry geometry{{rows, channels, inner}, true, 1};
    const Data<TestType> data(geometry);
    // The sums of those from `first` on: variance, weight_grad, sum(dy) and sum(dy (x - mean)) of each.
    const auto sums_of = [&](Eigen::Index first, Eigen::Index count) {
      Tensor x(rows, count, inner), dy(rows, count, inner);
      for (Eigen::Index row = 0; row < rows; ++row) {
        const auto from = static_cast<std::size_t>((row * channels + first) * inner);
        std::copy_n(data.x.data() + from, count * inner, x.data() + row * count * inner);
        std::copy_n(data.dy.data() + from, count * inner, dy.data() + row * count * inner);
      }
      BatchNorm<TestType, 3> bn(count);
      bn.forward(x);
      bn.backward(x, dy);
      const auto& saved = bn.saved_statistics();
      const auto gradients = batchnorm::accumulate_gradients(x, dy, 1, saved.mean(), saved.mean_residual());
      std::vector<std::array<double, 5>> sums;
      for (Eigen::Index c = 0; c < count; ++c) {
        sums.push_back({saved.mean()(c), saved.inv_std()(c), static_cast<double>(bn.weight_grad()(c)), gradients.dy(c),
                        gradients.dy_centered(c)});
      }
      return sums;
    };
    const auto expected = sums_of(0, channels);
    for (const Eigen::Index first : {0, 1, 2, 3, 5, 11}) {
      for (const Eigen::Index count : {64, 65, 71, 79}) {
        const auto found = sums_of(first, count);
        std::size_t different = 0;
        for (std::size_t c = 0; c < found.size(); ++c) {
          different += found[c] != expected[static_cast<std::size_t>(first) + c];
        }
        INFO(geometry << ", " << count << " channels from the " << first << "th on");
        CHECK(different == 0);
      }
    }
  }
}

// Else a thread waits for memory at every row: 20 times as long as the pass takes, where each row is a line of the
// cache.
TEST_CASE("channels whose rows are short and far apart are summed straight through memory, by all threads") {
  using batchnorm::detail::Tiling;
  using batchnorm::detail::View;
  for (const Eigen::Index threads : {1, 4}) {
    for (const Eigen::Index tensors : {1, 2}) {
      for (const View& view : {View{46875, 64, 16}, View{4096, 64, 49}, View{6147, 64, 122}}) {
        const Tiling tiling = Tiling::for_sums(view, {sizeof(float), tensors, threads, 1024});
        INFO(view.outer << " x " << view.channels << " x " << view.inner << ", " << threads << " threads");
        CHECK_FALSE(tiling.blocks.block_wise);
        CHECK(tiling.tile(0, 0).channels() == view.channels);
        CHECK(tiling.count() >= 4 * threads);
      }
      CHECK(Tiling::for_sums(View{32, 64, 3136}, {sizeof(float), tensors, threads, 1024}).blocks.block_wise);
    }
  }
}

namespace {

// What the kernels promise of a * b + c: rounded once where the instruction set has such an operation, else twice.
float multiplied_and_added(float a, float b, float c) {
  const auto isa = batchnorm::detail::best_isa();
  if (batchnorm::detail::baseline_is_fused || isa != batchnorm::detail::Isa::baseline) return std::fma(a, b, c);
  volatile float product = a * b;
  return product + c;
}

}  // namespace

// GCC fuses products and sums or not by the loop, so that the ends of a tensor, or of its rows, would differ from the
// middle.
TEST_CASE("every element is computed by the same operations, wherever it lies") {
  const float weight = 1.1F, bias = 0.7F, mean = 0.3F, slope = 0.9F;
  const auto k = [](float value) {
    Eigen::Tensor<double, 1> result(3);
    result.setConstant(static_cast<double>(value));
    return result;
  };
  std::size_t different = 0;
  for (const Eigen::Index inner : {1, 3, 17, 49, 200}) {
    for (Eigen::Index n = 1; n < 40; ++n) {
      Eigen::Tensor<float, 3, Eigen::RowMajor> x(n, 3, inner), dy(n, 3, inner), y(n, 3, inner), dx(n, 3, inner);
      for (Eigen::Index i = 0; i < x.size(); ++i) {
        x.data()[i] = static_cast<float>(i * i % 1009) / 77;
        dy.data()[i] = static_cast<float>(i * 7 % 1013) / 91;
      }
      batchnorm::normalize(x, 1, {k(mean), k(0), k(weight), k(bias)}, y);
      batchnorm::apply_gradients(x, dy, 1, {k(bias), k(mean), k(0), k(slope), k(weight)}, dx);
      for (Eigen::Index i = 0; i < x.size(); ++i) {
        const float centered = x.data()[i] - mean;
        different += y.data()[i] != multiplied_and_added(centered, weight, bias);
        different += dx.data()[i] != multiplied_and_added(-centered, slope, dy.data()[i] - bias) * weight;
      }
    }
  }
  CHECK(different == 0);
}

TEST_CASE("moments have the same bits with any number of threads") {
  Random random(52);
  Eigen::Tensor<double, 3> x(1500, 7, 60);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = random.uniform(-1, 3);
  batchnorm::Moments expected(7);
  expected.add(x);
  for (const int count : {1, 2, 3, 4, 7}) {
    Threads threads(count);
    batchnorm::Moments moments(7);
    moments.add(threads.device, x);
    for (Eigen::Index c = 0; c < 7; ++c) {
      CHECK(moments.mean()(c) == expected.mean()(c));
      CHECK(moments.mean_residual()(c) == expected.mean_residual()(c));
      CHECK(moments.M2()(c) == expected.M2()(c));
    }
  }
}

TEMPLATE_TEST_CASE("backward's check finds the x of a forward on any device, and on any device another", "", float,
                   Eigen::half) {
  using Tensor = Eigen::Tensor<TestType, 3, Eigen::RowMajor>;
  Threads two(2), seven(7);
  const auto nan = std::numeric_limits<TestType>::quiet_NaN();
  // Cut by rows and by columns, into blocks done whole and into slices.
  for (const auto& extents :
       {std::array<Eigen::Index, 3>{64, 64, 257}, {30000, 37, 1}, {3, 2, 340001}, {4096, 64, 16}}) {
    Random random(57);
    Tensor x(extents), y(extents), dx(extents);
    for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = TestType(static_cast<float>(random.uniform(-1, 3)));
    x.data()[x.size() / 2] = nan, x.data()[x.size() / 3] = TestType(-nan);
    BatchNorm<TestType, 3> bn(extents[1]);
    bn.check_backward(true);
    for (const bool training : {true, false}) {
      bn.train(training);
      const auto on = [&](const auto& forward_device, const auto& backward_device) {
        bn.forward(forward_device, x, y);
        CHECK_NOTHROW(bn.backward(backward_device, x, x, dx));
        CHECK_THROWS_AS(bn.backward(backward_device, y, x, dx), std::logic_error);
      };
      on(Eigen::DefaultDevice(), seven.device);
      on(seven.device, Eigen::DefaultDevice());
      on(two.device, seven.device);
    }
  }
}

TEST_CASE("expressions are evaluated on a pool of threads to the same values") {
  Threads threads(3);
  Random random(53);
  Eigen::Tensor<float, 3> x(1000, 7, 60), dy(1000, 7, 60);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 3));
  dy.setConstant(0.5F);
  BatchNorm<float, 3> bn(7), reference(7);
  const Eigen::Tensor<float, 3> doubled = x + x, y = bn.forward(threads.device, x + x),
                                expected = reference.forward(doubled);
  CHECK(std::memcmp(y.data(), expected.data(), static_cast<std::size_t>(y.size()) * sizeof(float)) == 0);
  const Eigen::Tensor<float, 3> dx = bn.backward(threads.device, x + x, dy * x),
                                dx_expected = reference.backward(doubled, Eigen::Tensor<float, 3>(dy * x));
  CHECK(std::memcmp(dx.data(), dx_expected.data(), static_cast<std::size_t>(dx.size()) * sizeof(float)) == 0);
}

namespace {

// A device that is not Eigen's, as the guide describes it: a thread for each index, or the caller for all, from the
// last to the first.
struct OwnDevice {
  int numThreads() const { return count; }
  int currentThreadId() const { return -1; }
  template <class Function>
  void parallelFor(Eigen::Index n, const Eigen::TensorOpCost&, const Function& function) const {
    ++calls;
    if (on_the_caller) {
      for (Eigen::Index i = n; i-- > 0;) function(i, i + 1);
      return;
    }
    std::vector<std::thread> threads;
    for (Eigen::Index i = 0; i < n; ++i) threads.emplace_back([&function, i] { function(i, i + 1); });
    for (auto& thread : threads) thread.join();
  }

  int count;
  bool on_the_caller;
  mutable int calls = 0;
};

}  // namespace

TEST_CASE("the same bits on a device of the caller's own") {
  for (const auto& geometry : {oracle::Geometry{{64, 32, 257}, true, 1}, oracle::Geometry{{30000, 1, 37}, true, 2}}) {
    const Data<float> data(geometry);
    const auto expected = results_on<float, Eigen::RowMajor>(Eigen::DefaultDevice(), data);
    for (const int count : {2, 4, 40}) {
      for (const bool on_the_caller : {true, false}) {
        const OwnDevice device{count, on_the_caller};
        INFO(geometry << ", " << count << " threads, on the caller " << on_the_caller);
        CHECK((results_on<float, Eigen::RowMajor>(device, data) == expected));
        CHECK(device.calls >= 7);
      }
    }
  }
  Eigen::Tensor<float, 3> x(64, 32, 257);
  x.setConstant(2.0F);
  x.chip(0, 0).setConstant(1.0F);
  const BatchNorm<float, 3> bn(32);
  const Eigen::Tensor<float, 3> y = bn.infer(OwnDevice{4, false}, x + x), expected = bn.infer(x + x);
  CHECK(std::equal(y.data(), y.data() + y.size(), expected.data()));
}

TEST_CASE("a task of the pool may itself call the layer on the pool") {
  Threads threads(2);
  Random random(54);
  Eigen::Tensor<float, 3> x(64, 64, 100);  // more than 1 MiB, which is worth a second thread
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 3));
  const BatchNorm<float, 3> bn(64);
  const Eigen::Tensor<float, 3> expected = bn.infer(x);
  std::vector<Eigen::Tensor<float, 3>> results(4);
  Eigen::Barrier barrier(4);
  for (auto& y : results) {
    threads.pool.Schedule([&] {
      y = bn.infer(threads.device, x + x * 0.0F);  // an expression too
      barrier.Notify();
    });
  }
  barrier.Wait();  // would wait for ever if the tasks waited for one another
  for (const auto& y : results) {
    CHECK(std::memcmp(y.data(), expected.data(), static_cast<std::size_t>(y.size()) * sizeof(float)) == 0);
  }
}

TEST_CASE("a call does not wait for threads of the pool that are busy elsewhere") {
  const oracle::Geometry g{{64, 32, 257}, true, 1};
  const Data<float> data(g);
  const auto expected = results_on<float, Eigen::RowMajor>(Eigen::DefaultDevice(), data);
  std::atomic<bool> release{false};
  Threads threads(4);
  for (int i = 0; i < 4; ++i) {
    threads.pool.Schedule([&release] {
      while (!release) std::this_thread::yield();
    });
  }
  // Many calls, whose tasks for the others pile up meanwhile, and are met by threads that come when all is done.
  for (int call = 0; call < 8; ++call) CHECK(results_on<float, Eigen::RowMajor>(threads.device, data) == expected);
  release = true;
  for (int call = 0; call < 8; ++call) CHECK(results_on<float, Eigen::RowMajor>(threads.device, data) == expected);
}

TEST_CASE("an exception on any thread, in any pass, reaches the caller and leaves the layer as before") {
  using fragile::Fragile;
  using Numbers = Eigen::Tensor<Fragile, 3>;
  Threads threads(3);
  Random random(56);
  Numbers x(2, 3, 40000), dy(2, 3, 40000), y(2, 3, 40000), expected(2, 3, 40000);  // more than 1 MiB
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = random.uniform(-1, 3);
    dy.data()[i] = random.uniform(-1, 1);
  }
  BatchNorm<Fragile, 3> bn(3);
  bn.forward(threads.device, x, y);
  const auto before = snapshot(bn);
  const auto check = [&](const auto& work) {
    constexpr long plenty = 1L << 40;
    Fragile::multiplications_left = plenty;
    auto copy = bn;
    work(copy, expected);
    const long needed = plenty - Fragile::multiplications_left;
    for (int part = 1; part < 16; ++part) {
      copy = bn;
      Fragile::multiplications_left = needed * part / 16;
      CHECK_THROWS_AS(work(copy, y), std::overflow_error);
      Fragile::multiplications_left = 0;
      CHECK(snapshot(copy) == before);
      work(copy, y);
      CHECK(std::equal(y.data(), y.data() + y.size(), expected.data()));
    }
  };
  check([&](auto& layer, auto& out) { layer.forward(threads.device, x, out); });
  check([&](auto& layer, auto& out) { layer.backward(threads.device, x, dy, out); });
  check([&](auto& layer, auto& out) { layer.infer(threads.device, x, out); });
}

TEST_CASE("infer may be called from many threads at once on one pool") {
  Threads threads(3);
  Random random(55);
  Eigen::Tensor<float, 3> x(64, 64, 100);
  for (Eigen::Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(random.uniform(-1, 3));
  BatchNorm<float, 3> bn(64);
  bn.forward(x);
  const Eigen::Tensor<float, 3> expected = bn.infer(x);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> callers;
  for (auto& count : wrong) {
    callers.emplace_back([&] {
      Eigen::Tensor<float, 3> y(64, 64, 100);
      for (int i = 0; i < 20; ++i) {
        bn.infer(threads.device, x, y);
        count += std::memcmp(y.data(), expected.data(), static_cast<std::size_t>(y.size()) * sizeof(float)) != 0;
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK(wrong == std::vector<int>(4, 0));
}
