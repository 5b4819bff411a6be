// Which instruction set is chosen when the program runs.

#include <batchnorm/batchnorm.hpp>

#include <fstream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>

#include "catch.hpp"

#if BATCHNORM_X86_DISPATCH

namespace detail = batchnorm::detail;
using detail::Isa;

#ifdef __linux__
TEST_CASE("the instruction set is the best of which the system says that the processor has it", "[processor]") {
  std::ifstream info("/proc/cpuinfo");
  std::string line;
  while (std::getline(info, line) && line.rfind("flags", 0) != 0) {
  }
  std::set<std::string> flags;
  std::istringstream words(line);
  for (std::string word; words >> word;) flags.insert(word);
  const auto has = [&](std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (flags.count(name) == 0) return false;
    }
    return true;
  };
  const bool avx2 = has({"avx2", "fma", "f16c"});
  const bool avx512 = avx2 && has({"avx512f", "avx512vl", "avx512bw", "avx512dq"});
  if (!flags.empty()) CHECK(detail::supported_isa() == (avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::baseline));
}
#endif

TEST_CASE("BATCHNORM_MAX_ISA is the name of an instruction set, or unset or empty for any") {
  CHECK(detail::parse_isa(nullptr) == Isa::avx512);
  CHECK(detail::parse_isa("") == Isa::avx512);
  CHECK(detail::parse_isa("avx512") == Isa::avx512);
  CHECK(detail::parse_isa("avx2") == Isa::avx2);
  CHECK(detail::parse_isa("baseline") == Isa::baseline);
  for (const char* name : {" ", "AVX2", "avx", "sse2"}) {
    CHECK_THROWS_MATCHES(
        detail::parse_isa(name), std::invalid_argument,
        Catch::Matchers::Message("batchnorm: expected baseline, avx2 or avx512 in the environment variable "
                                 "BATCHNORM_MAX_ISA, got \"" +
                                 std::string(name) + "\""));
  }
}

#endif
