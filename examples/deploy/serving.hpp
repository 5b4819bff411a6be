// Many threads that share one const network, and how long each of their requests takes.

#ifndef DEPLOY_SERVING_HPP
#define DEPLOY_SERVING_HPP

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <thread>
#include <vector>

#include "network.hpp"

/// Requests of all threads: each its time in microseconds, in ascending order, and the time from the first to the last.
struct Latencies {
  std::vector<double> sorted;
  double seconds = 0;

  /// What so large a share of the requests takes at most.
  double percentile(double share) const {
    const auto last = sorted.size() - 1;
    return sorted[std::min(last, static_cast<std::size_t>(share * static_cast<double>(sorted.size())))];
  }
};

/// `threads` threads make `requests` requests each, one after another, of x's rows, to one network.
template <class AnyNetwork>
Latencies serve(const AnyNetwork& network, const Matrix& x, int threads, int requests) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> times(static_cast<std::size_t>(threads));
  std::vector<std::thread> workers;
  const auto begin = Clock::now();
  for (std::vector<double>& own : times) {
    own.reserve(static_cast<std::size_t>(requests));
    workers.emplace_back([&network, &x, &own, requests] {
      for (int i = 0; i < requests; ++i) {
        const auto start = Clock::now();
        const Matrix y = network(x);
        own.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
      }
    });
  }
  for (std::thread& worker : workers) worker.join();
  Latencies result;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  for (const auto& own : times) result.sorted.insert(result.sorted.end(), own.begin(), own.end());
  std::sort(result.sorted.begin(), result.sorted.end());
  return result;
}

#endif  // DEPLOY_SERVING_HPP
