#include "run.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

Outcome run_float(const Problem& problem);
Outcome run_double(const Problem& problem);
Outcome run_half(const Problem& problem);
Outcome run_bfloat16(const Problem& problem);

namespace {

// IEEE 754's parameters of a binary format, and of bfloat16, which is a float without its last 16 digits.
struct Format {
  const char* name;
  int digits, min_exponent, max_exponent;  // of normal numbers 1.xxx 2^exponent
};

Format format_of(Scalar type) {
  switch (type) {
    case Scalar::float32:
      return {"float", 24, -126, 127};
    case Scalar::float64:
      return {"double", 53, -1022, 1023};
    case Scalar::float16:
      return {"half", 11, -14, 15};
    case Scalar::bfloat16:
      return {"bfloat16", 8, -126, 127};
  }
  throw std::logic_error("no such type");
}

}  // namespace

Outcome run(Scalar type, const Problem& problem) {
  switch (type) {
    case Scalar::float32:
      return run_float(problem);
    case Scalar::float64:
      return run_double(problem);
    case Scalar::float16:
      return run_half(problem);
    case Scalar::bfloat16:
      return run_bfloat16(problem);
  }
  throw std::logic_error("no such type");
}

const char* name_of(Scalar type) { return format_of(type).name; }

double largest(Scalar type) {
  const Format f = format_of(type);
  return std::ldexp(2 - std::ldexp(1, 1 - f.digits), f.max_exponent);
}

double smallest_normal(Scalar type) { return std::ldexp(1, format_of(type).min_exponent); }

double ulp(Scalar type, double value) {
  const Format f = format_of(type);
  const int exponent = value == 0 ? f.min_exponent : std::max(std::ilogb(value), f.min_exponent);
  return std::ldexp(1, exponent - (f.digits - 1));
}

double rounded(Scalar type, double value) {
  if (type == Scalar::float64 || !std::isfinite(value)) return value;
  const double unit = ulp(type, value), result = std::nearbyint(value / unit) * unit;
  return std::abs(result) > largest(type) ? std::copysign(std::numeric_limits<double>::infinity(), value) : result;
}

Problem tile(const Regime& regime, const std::vector<exact::Channel>& channels) {
  Problem p;
  p.regime = regime;
  p.x.resize(regime.size());
  p.dy.resize(regime.size());
  const exact::Channel& first = channels.front();
  p.epsilon = first.epsilon;
  p.momentum = first.momentum;
  p.unbiased = first.unbiased;
  p.training = first.batch_statistics;
  for (std::int64_t c = 0; c < regime.channels; ++c) {
    const exact::Channel& channel = channels[static_cast<std::size_t>(c) % channels.size()];
    for (std::int64_t k = 0; k < regime.values_per_channel(); ++k) {
      p.x[regime.at(c, k)] = channel.x[static_cast<std::size_t>(k)];
      p.dy[regime.at(c, k)] = channel.dy[static_cast<std::size_t>(k)];
    }
    p.weight.push_back(channel.weight);
    p.bias.push_back(channel.bias);
    p.running_mean.push_back(channel.running_mean);
    p.running_var.push_back(channel.running_var);
  }
  return p;
}
