// How much results may differ between instruction sets: vectors of other lengths add in another order, and those
// without a fused multiply-add round once more.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "../catch.hpp"
#include "isa_problems.hpp"

namespace {

std::vector<double> results_at(const std::string& isa, const std::string& variables = "") {
  const std::string command = variables + " BATCHNORM_MAX_ISA=" + isa + " \"" BATCHNORM_ISA_RESULTS "\"";
  std::FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::vector<double> values(1 << 16), all;
  for (std::size_t n; (n = std::fread(values.data(), sizeof(double), values.size(), pipe)) != 0;) {
    all.insert(all.end(), values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n));
  }
  REQUIRE(pclose(pipe) == 0);
  return all;
}

double largest_of(const double* values, const Regime& regime, std::int64_t channel) {
  double result = 0;
  for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
    result = std::max(result, std::abs(values[regime.at(channel, k)]));
  }
  return result;
}

// The scales of a channel, which many problems have in common.
const exact::Scales& scales_of(const IsaProblem& p, std::size_t channel) {
  static std::map<std::string, std::vector<exact::Scales>> known;
  auto& scales = known[name_of(p.type) + p.set.name];
  for (std::size_t i = scales.size(); i < p.set.channels.size(); ++i) {
    scales.push_back(exact::scales(p.set.channels[i], exact::solve(p.set.channels[i], 50)));
  }
  return scales[channel];
}

// Largest differences over all problems of a type, in units of the type's last digit of the largest y of a channel, of
// its largest |weight| inv_std |dy|, and of a running statistic.
struct Differences {
  double y = 0, dx = 0, running = 0;
};

}  // namespace

TEST_CASE("results have the same bits whatever the size of the cache") {
  const auto reference = results_at("avx512");
  for (const char* bytes : {"0", "1000000000000", ""}) {
    const auto found = results_at("avx512", std::string("BATCHNORM_CACHE_BYTES=") + bytes);
    REQUIRE(found.size() == reference.size());
    CHECK(std::memcmp(found.data(), reference.data(), found.size() * sizeof(double)) == 0);
  }
}

TEST_CASE(
    "instruction sets differ by 2 ulps of a channel's scale in y and dx, 4 in running statistics, and double by "
    "2e-13") {
  const auto problems = isa_problems();
  const auto reference = results_at("avx512");
  for (const char* isa : {"avx2", "baseline"}) {
    const auto found = results_at(isa);
    REQUIRE(found.size() == reference.size());
    std::map<Scalar, Differences> all;
    std::size_t at = 0;
    for (const auto& p : problems) {
      const Regime& r = p.regime;
      Differences& largest = all[p.type];
      const double *const y = &found[at], *const dx = y + r.size(), *const running = dx + r.size();
      const double *const y_0 = &reference[at], *const dx_0 = y_0 + r.size(), *const running_0 = dx_0 + r.size();
      for (std::int64_t c = 0; c < r.channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        const exact::Scales& scales = scales_of(p, i);
        const double y_unit = ulp(p.type, largest_of(y_0, r, c));
        const double dx_unit = ulp(p.type, std::max(largest_of(dx_0, r, c), static_cast<double>(scales.dx)));
        for (std::int64_t k = 0; k < r.values_per_channel(); ++k) {
          const std::size_t j = r.at(c, k);
          if (y[j] != y_0[j]) largest.y = std::max(largest.y, std::abs(y[j] - y_0[j]) / y_unit);
          if (dx[j] != dx_0[j]) largest.dx = std::max(largest.dx, std::abs(dx[j] - dx_0[j]) / dx_unit);
        }
        const Scalar param = param_of(p.type);
        const double mean_unit = ulp(param, static_cast<double>(scales.running_mean));
        const double var_unit = ulp(param, static_cast<double>(scales.running_var));
        const double means = running[i] - running_0[i], vars = running[i + 3] - running_0[i + 3];
        if (means != 0) largest.running = std::max(largest.running, std::abs(means) / mean_unit);
        if (vars != 0) largest.running = std::max(largest.running, std::abs(vars) / var_unit);
      }
      at += 2 * r.size() + 4 * static_cast<std::size_t>(r.channels);
    }
    REQUIRE(at == found.size());
    for (const auto& [type, difference] : all) {
      INFO(isa << ", " << name_of(type) << ": y " << difference.y << ", dx " << difference.dx << ", running "
               << difference.running);
      // A double's sums are as wide as itself: each level is within 1e-13 of the exact result, and so they
      // are within 2e-13 of each other, 1801 ulps at most. A float's variance is summed in floats, sixteen at
      // a time, whose rounding is off by 4 ulps at most where every one of them is rounded to the same side.
      // The sums of the 16-bit types are doubles, whose differences are far below.
      const bool wide = type == Scalar::float64;
      CHECK(difference.y <= (wide ? 1801 : 2));
      CHECK(difference.dx <= (wide ? 1801 : 2));
      CHECK(difference.running <= (wide ? 1801 : type == Scalar::float32 ? 4 : 1));
    }
  }
}
