#include "machine.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>

#ifdef __unix__
#include <unistd.h>
#endif

namespace bench {
namespace {

std::string line_of(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// How many processors a list such as "0-3,8-11" names.
int count_of(const std::string& list) {
  int count = 0;
  for (std::size_t begin = 0; begin < list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string range = list.substr(begin, end - begin);
    const std::size_t dash = range.find('-');
    const int first = std::atoi(range.c_str());
    count += dash == std::string::npos ? 1 : std::atoi(range.c_str() + dash + 1) - first + 1;
    begin = end + 1;
  }
  return count;
}

// "32K", "1024K" or "32M", as Linux writes sizes.
long bytes_of(const std::string& size) {
  const long number = std::atol(size.c_str());
  const char unit = size.empty() ? ' ' : size.back();
  return unit == 'K' ? number << 10 : unit == 'M' ? number << 20 : number;
}

}  // namespace

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

std::vector<Cache> caches() {
  std::vector<Cache> found;
  for (int i = 0; i < 8; ++i) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(i) + "/";
    const std::string level = line_of(folder + "level"), type = line_of(folder + "type");
    if (level.empty() || type == "Instruction") continue;
    found.push_back({level == "1" ? "l1d" : "l" + level, bytes_of(line_of(folder + "size")),
                     count_of(line_of(folder + "shared_cpu_list"))});
  }
#ifdef _SC_LEVEL1_DCACHE_SIZE
  // Less to be trusted: of an AMD processor glibc may count the caches of several groups of cores as one.
  if (found.empty()) {
    found = {{"l1d", sysconf(_SC_LEVEL1_DCACHE_SIZE), 0},
             {"l2", sysconf(_SC_LEVEL2_CACHE_SIZE), 0},
             {"l3", sysconf(_SC_LEVEL3_CACHE_SIZE), 0}};
    found.erase(std::remove_if(found.begin(), found.end(), [](const Cache& cache) { return cache.bytes <= 0; }),
                found.end());
  }
#endif
  std::sort(found.begin(), found.end(), [](const Cache& a, const Cache& b) { return a.name < b.name; });
  return found;
}

}  // namespace bench
