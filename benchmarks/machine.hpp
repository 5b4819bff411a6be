// The machine that measures: a time says little without the processor and its caches.

#ifndef BATCHNORM_BENCHMARKS_MACHINE_HPP
#define BATCHNORM_BENCHMARKS_MACHINE_HPP

#include <string>
#include <vector>

namespace bench {

std::string cpu_model();

struct Cache {
  std::string name;  // "l1d", "l2" or "l3"
  long bytes;        // of one instance, which one core has for itself or several share
  int processors;    // that share it; 0 where the system does not tell
};

// The data caches of the first processor, from the smallest; none where the system does not tell.
std::vector<Cache> caches();

}  // namespace bench

#endif  // BATCHNORM_BENCHMARKS_MACHINE_HPP
