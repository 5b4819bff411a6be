// Measures this library beside its limits, plain Eigen expressions and its peers. README.md here says how to read it.
//
//   bench [--out=FILE.json] [--quick] [--filter=REGEX] [--repetitions=N] [--min_time=SECONDS] [--threads=N]
//
// A benchmark is named SET/LAYOUT/SHAPE/PASS/THREADS/WHO; --filter keeps the names in which REGEX is found.

#include <benchmark/benchmark.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "cases.hpp"
#include "contenders.hpp"
#include "machine.hpp"
#include "oracle.hpp"

namespace bench {
namespace {

struct Options {
  std::string out;
  std::string filter;
  bool quick = false;
  int repetitions = 7;
  double min_time = 0.03;
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
};

[[noreturn]] void usage(const std::string& wrong) {
  std::fprintf(stderr,
               "bench: %s\nusage: bench [--out=FILE.json] [--quick] [--filter=REGEX] [--repetitions=N] "
               "[--min_time=SECONDS] [--threads=N]\n",
               wrong.c_str());
  std::exit(2);
}

Options parse(int argc, char** argv) {
  Options options;
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (std::find(arguments.begin(), arguments.end(), "--quick") != arguments.end()) {
    options.quick = true;
    options.repetitions = 2;
    options.min_time = 0.001;
    options.threads = std::min(options.threads, 2);
  }
  for (const std::string& argument : arguments) {
    const std::size_t equals = argument.find('=');
    const std::string key = argument.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : argument.substr(equals + 1);
    if (argument == "--quick") continue;
    if (value.empty()) usage("unknown argument " + argument);
    if (key == "--out") {
      options.out = value;
    } else if (key == "--filter") {
      options.filter = value;
    } else if (key == "--repetitions") {
      options.repetitions = std::atoi(value.c_str());
    } else if (key == "--min_time") {
      options.min_time = std::atof(value.c_str());
    } else if (key == "--threads") {
      options.threads = std::atoi(value.c_str());
    } else {
      usage("unknown argument " + argument);
    }
  }
  if (options.repetitions < 1 || options.min_time <= 0 || options.threads < 1) usage("a number is out of range");
  return options;
}

// Keeps the median of each benchmark in a JSON file of Google Benchmark's format, over many calls of
// RunSpecifiedBenchmarks, and for the group at hand, to be shown.
class Medians : public benchmark::BenchmarkReporter {
 public:
  explicit Medians(const std::string& path) {
    if (path.empty()) return;
    file_.open(path);
    if (!file_) usage("cannot write " + path);
    json_.SetOutputStream(&file_);
    json_.SetErrorStream(&std::cerr);
  }

  bool ReportContext(const Context& context) override {
    if (file_.is_open() && !begun_) json_.ReportContext(context);
    begun_ = true;
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> kept;
    for (const Run& run : runs)
      if (run.repetitions == 1 || run.aggregate_name == "median") kept.push_back(run);
    for (const Run& run : kept) {
      const std::string& path = run.run_name.function_name;
      seconds_[path.substr(path.rfind('/') + 1)] =
          run.GetAdjustedRealTime() / benchmark::GetTimeUnitMultiplier(run.time_unit);
    }
    if (file_.is_open() && !kept.empty()) json_.ReportRuns(kept);
  }

  // One line: who took how long, and how many times the limit.
  void show_group(const std::string& title) {
    std::map<std::string, double> best;
    for (const auto& [who, seconds] : seconds_) {
      const std::string family = who.substr(0, who.find(':'));
      best[family] = best.count(family) ? std::min(best[family], seconds) : seconds;
    }
    std::printf("%-44s", title.c_str());
    for (const auto& [family, seconds] : best) {
      if (family != "limit" && best.count("limit")) {
        std::printf("  %s %.2f", family.c_str(), seconds / best["limit"]);
      } else {
        std::printf("  %s %.6g us", family.c_str(), seconds * 1e6);
      }
    }
    std::printf("\n");
    std::fflush(stdout);
    seconds_.clear();
  }

  void finish() {
    if (file_.is_open() && begun_) json_.Finalize();
  }

 private:
  std::ofstream file_;
  benchmark::JSONReporter json_;
  bool begun_ = false;
  std::map<std::string, double> seconds_;
};

class Session {
 public:
  explicit Session(const Options& options)
      : options_(options),
        filter_(options.filter),
        pool_(options.threads),
        device_(&pool_, options.threads),
        medians_(options.out) {}

  // False if a contender computes something else than batch normalization; such a one is not measured.
  bool run() {
    for (const Case& c : options_.quick ? quick_cases() : all_cases()) run(c);
    medians_.finish();
    return agreed_;
  }

 private:
  void run(const Case& c) {
    std::unique_ptr<Problem> problem;
    for (const Pass pass : c.passes) {
      std::unique_ptr<Expected> oracle;
      for (const int count : thread_counts()) {
        const std::string group = group_name(c, pass, count);
        // Contenders take time and memory to make: only if the filter leaves some.
        const auto any = {"limit:", "spin:", "batchnorm", "spinning", "eigen", "torch", "onednn"};
        if (std::none_of(any.begin(), any.end(), [&](const char* who) { return wanted(group + who); })) continue;
        if (!problem) problem = std::make_unique<Problem>(c.shape, c.layout);
        if (!oracle) oracle = std::make_unique<Expected>(expected(*problem, pass));
        run(group, *problem, pass, Threads{count, count > 1 ? &device_ : nullptr}, *oracle);
      }
    }
  }

  void run(const std::string& group, const Problem& problem, Pass pass, Threads threads, const Expected& oracle) {
    std::vector<Contender> contenders;
    const auto add = [&](const char* who, std::vector<Contender> (*make)(const Problem&, Pass, Threads)) {
      if (!wanted(group + who)) return;
      for (Contender& contender : make(problem, pass, threads)) contenders.push_back(std::move(contender));
    };
    add("limit:", limits);
    add("batchnorm", ours);
    add("eigen", eigen_expressions);
#ifdef BATCHNORM_BENCHMARK_TORCH
    add("torch", torch);
#endif
#ifdef BATCHNORM_BENCHMARK_ONEDNN
    add("onednn", onednn);
#endif

    benchmark::ClearRegisteredBenchmarks();
    for (const Contender& contender : contenders) {
      if (!contender.is_limit) {
        const std::string wrong = disagreement(problem, contender, oracle);
        if (!wrong.empty()) {
          std::fprintf(stderr, "bench: %s%s is not measured: %s\n", group.c_str(), contender.name.c_str(),
                       wrong.c_str());
          agreed_ = false;
          continue;
        }
      }
      register_one(group + contender.name, contender, threads);
    }
    benchmark::RunSpecifiedBenchmarks(&medians_, ".");
    medians_.show_group(group);
  }

  // The repetitions of a group are shuffled by Google Benchmark, so that what disturbs the machine for a while disturbs
  // all of the group. Each begins untimed: a pause in which the spinning threads of whoever ran before fall asleep,
  // then a call, or several of a short one, after which caches, branch predictors and threads are in their usual state.
  void register_one(const std::string& full_name, const Contender& contender, Threads threads) {
    const bool slow = contender.name == "eigen";
    const auto pause = std::chrono::milliseconds(threads.count > 1 && !options_.quick ? 25 : 0);
    const auto warm_up = std::chrono::microseconds(slow ? 0 : 1000);
    const auto body = [&contender, pause, warm_up](benchmark::State& state) {
      if (contender.prepare) contender.prepare();
      std::this_thread::sleep_for(pause);
      for (const auto begin = std::chrono::steady_clock::now(); std::chrono::steady_clock::now() - begin < warm_up;)
        contender.run();
      for (auto _ : state) {
        contender.run();
        benchmark::ClobberMemory();
      }
    };
    benchmark::RegisterBenchmark(full_name.c_str(), body)
        ->UseRealTime()
        ->Unit(benchmark::kNanosecond)
        ->MinTime(options_.min_time)
        ->Repetitions(slow ? std::min(options_.repetitions, 3) : options_.repetitions);
  }

  std::vector<int> thread_counts() const {
    return options_.threads > 1 ? std::vector<int>{1, options_.threads} : std::vector<int>{1};
  }

  bool wanted(const std::string& full_name) const { return std::regex_search(full_name, filter_); }

  Options options_;
  std::regex filter_;
  Eigen::ThreadPool pool_;
  Eigen::ThreadPoolDevice device_;
  Medians medians_;
  bool agreed_ = true;
};

void add_context() {
  const auto dotted = [](int a, int b, int c) {
    return std::to_string(a) + "." + std::to_string(b) + "." + std::to_string(c);
  };
  benchmark::AddCustomContext("cpu_model", cpu_model());
  for (const Cache& cache : caches()) {
    std::string text = std::to_string(cache.bytes >> 10) + " KiB";
    if (cache.processors > 0) text += " for " + std::to_string(cache.processors);
    benchmark::AddCustomContext(cache.name, text);
  }
  benchmark::AddCustomContext("batchnorm",
                              dotted(BATCHNORM_VERSION_MAJOR, BATCHNORM_VERSION_MINOR, BATCHNORM_VERSION_PATCH));
#ifdef EIGEN_PATCH_VERSION
  benchmark::AddCustomContext("eigen", dotted(EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION, EIGEN_PATCH_VERSION));
#else
  benchmark::AddCustomContext("eigen", dotted(EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION));
#endif
#if defined(__clang__)
  benchmark::AddCustomContext("compiler", "Clang " + dotted(__clang_major__, __clang_minor__, __clang_patchlevel__));
#elif defined(__GNUC__)
  benchmark::AddCustomContext("compiler", "GCC " + dotted(__GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__));
#endif
  benchmark::AddCustomContext("flags", BATCHNORM_BENCHMARK_FLAGS);
#ifdef __GLIBC__
  benchmark::AddCustomContext("libc", "glibc " + std::to_string(__GLIBC__) + "." + std::to_string(__GLIBC_MINOR__));
#endif
#ifdef BATCHNORM_BENCHMARK_TORCH
  benchmark::AddCustomContext("torch", torch_version());
#endif
#ifdef BATCHNORM_BENCHMARK_ONEDNN
  benchmark::AddCustomContext("onednn", onednn_version());
#endif
  if (const char* isa = std::getenv("BATCHNORM_MAX_ISA")) benchmark::AddCustomContext("max_isa", isa);
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) try {
#ifdef __GLIBC__
  // Who allocates its result anew each time gets the memory it freed before, not fresh pages from the kernel.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 2147483647);
#endif
  const bench::Options options = bench::parse(argc, argv);
  std::string program = argv[0], interleave = "--benchmark_enable_random_interleaving=true";
  char* arguments[] = {program.data(), interleave.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, arguments);
  bench::add_context();
  return bench::Session(options).run() ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench: %s\n", error.what());
  return 1;
}
