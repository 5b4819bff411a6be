#include "run.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

Outcome run_float(const Problem& problem);
Outcome run_double(const Problem& problem);

Outcome run(Scalar type, const Problem& problem) {
  switch (type) {
    case Scalar::float32:
      return run_float(problem);
    case Scalar::float64:
      return run_double(problem);
  }
  throw std::logic_error("no such type");
}

const char* name_of(Scalar type) { return type == Scalar::float32 ? "float" : "double"; }

double rounded(Scalar type, double value) {
  return type == Scalar::float32 ? static_cast<double>(static_cast<float>(value)) : value;
}

double ulp(Scalar type, double value) {
  const double size = std::abs(value);
  if (type == Scalar::float64) return std::nextafter(size, std::numeric_limits<double>::infinity()) - size;
  const auto narrow = static_cast<float>(size);
  return static_cast<double>(std::nextafter(narrow, std::numeric_limits<float>::infinity())) -
         static_cast<double>(narrow);
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
