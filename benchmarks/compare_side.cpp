// One side of a comparison: this library in one version, compiled with one set of flags. compare.py starts a process
// for each side and has them take turns.
//
//   side --machine                  prints the processor and its caches
//   side --list THREADS             prints the benchmarks, a line each: NAME FLOATS, of which its tensors have so many
//   side --serve FD FLOATS THREADS  measures what it is asked for on standard input
//
// A request is a line, NAME SECONDS, and the answer another: the seconds a call took at best in a turn of so many
// seconds. FD is a file, which all sides map: x, dy and the output are the same pages of memory for each, so that no
// side has the luck of pages that get along in the cache. The request "fill 0" fills x and dy.

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "cases.hpp"
#include "contenders.hpp"
#include "machine.hpp"
#include "our_layer.hpp"

namespace bench {
namespace {

// A tensor of x's, dy's and the output's memory begins at a multiple of it.
constexpr Index grain = 2 << 20;

Index rounded_up(Index bytes) { return (bytes + grain - 1) / grain * grain; }

struct Benchmark {
  Case of;
  Pass pass;
  int threads;
};

std::map<std::string, Benchmark> benchmarks(int threads, std::vector<std::string>* order = nullptr) {
  std::map<std::string, Benchmark> found;
  for (const Case& c : all_cases()) {
    for (const Pass pass : c.passes) {
      for (const int count : {1, threads}) {
        const std::string name = group_name(c, pass, count) + "batchnorm";
        // Tiny tensors are never worth a second thread.
        if ((count > 1 && c.set == "tiny") || !found.emplace(name, Benchmark{c, pass, count}).second) continue;
        if (order != nullptr) order->push_back(name);
      }
    }
  }
  return found;
}

class Side {
 public:
  Side(int file, Index floats, int threads)
      : floats_(floats), benchmarks_(benchmarks(threads)), pool_(threads), device_(&pool_, threads) {
    const Index bytes = rounded_up(floats * Index(sizeof(float)));
    void* memory =
        mmap(nullptr, static_cast<std::size_t>(3 * bytes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("the memory for the tensors cannot be mapped");
    x_ = static_cast<float*>(memory);
    dy_ = x_ + bytes / Index(sizeof(float));
    out_ = dy_ + bytes / Index(sizeof(float));
  }

  void fill() const {
    Random random;
    for (Index i = 0; i < floats_; ++i) {
      x_[i] = random.uniform() + 0.5F;
      dy_[i] = random.uniform();
      out_[i] = 0;
    }
  }

  double measure(const std::string& name, double seconds) {
    if (name != prepared_) prepare(name);
    if (contender_.prepare) contender_.prepare();
    // Long enough for caches, branch predictors and threads to come to their usual state.
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point begin) {
      return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    const auto first_call = Clock::now();
    double once = 0;
    do {
      const auto begin = Clock::now();
      contender_.run();
      once = since(begin);
    } while (since(first_call) < 3e-4);
    // Stretches so short that some fall between two disturbances, and so long that the clock costs nothing.
    const int calls = std::max(1, static_cast<int>(2e-4 / once));
    double best = std::numeric_limits<double>::infinity();
    const auto first_stretch = Clock::now();
    for (int stretch = 0; stretch < 2 || since(first_stretch) < seconds; ++stretch) {
      const auto begin = Clock::now();
      for (int i = 0; i < calls; ++i) contender_.run();
      best = std::min(best, since(begin) / calls);
    }
    return best;
  }

 private:
  void prepare(const std::string& name) {
    const Benchmark& b = benchmarks_.at(name);
    contender_ = {};
    problem_ = std::make_unique<Problem>(b.of.shape, b.of.layout, x_, dy_, out_);
    contender_ = b.of.shape.rank_2() ? layer<2>(b) : layer<4>(b);
    prepared_ = name;
  }

  template <int Rank>
  Contender layer(const Benchmark& b) const {
    return b.threads > 1 ? our_layer<Rank>(device_, "batchnorm", *problem_, b.pass)
                         : our_layer<Rank>(Eigen::DefaultDevice(), "batchnorm", *problem_, b.pass);
  }

  Index floats_;
  std::map<std::string, Benchmark> benchmarks_;
  Eigen::ThreadPool pool_;
  Eigen::ThreadPoolDevice device_;
  float* x_;
  float* dy_;
  float* out_;
  std::string prepared_;
  std::unique_ptr<Problem> problem_;
  Contender contender_;
};

void print_machine() {
  std::cout << cpu_model();
  for (const Cache& cache : caches()) {
    std::cout << ", " << cache.name << " " << (cache.bytes >> 10) << " KiB";
    if (cache.processors > 0) std::cout << " for " << cache.processors;
  }
  std::cout << "\n";
}

void print_benchmarks(int threads) {
  std::vector<std::string> order;
  const auto all = benchmarks(threads, &order);
  for (const std::string& name : order) std::cout << name << " " << all.at(name).of.shape.size() << "\n";
}

void serve(int file, Index floats, int threads) {
  Side side(file, floats, threads);
  double seconds = 0;
  for (std::string name; std::cin >> name >> seconds;) {
    if (name == "fill") {
      side.fill();
      std::cout << 0 << std::endl;
    } else {
      std::cout.precision(9);
      std::cout << side.measure(name, seconds) << std::endl;
    }
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) try {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto number = [&](std::size_t i) { return std::atoll(arguments[i].c_str()); };
  if (arguments.size() == 1 && arguments[0] == "--machine") {
    bench::print_machine();
  } else if (arguments.size() == 2 && arguments[0] == "--list") {
    bench::print_benchmarks(static_cast<int>(number(1)));
  } else if (arguments.size() == 4 && arguments[0] == "--serve") {
    bench::serve(static_cast<int>(number(1)), static_cast<bench::Index>(number(2)), static_cast<int>(number(3)));
  } else {
    std::cerr << "usage: side --machine | --list THREADS | --serve FD FLOATS THREADS\n";
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "side: " << error.what() << "\n";
  return 1;
}
