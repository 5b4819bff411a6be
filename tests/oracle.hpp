// Batch normalization from the textbook, in long double, as what the tests compare the library with. It shares no code
// and no idea with the library: it walks over the multi-indices of a tensor, takes means and variances in two plain
// passes, and goes backward by the chain rule of the paper (Ioffe and Szegedy, arXiv 1502.03167, section 3).

#ifndef BATCHNORM_TESTS_ORACLE_HPP
#define BATCHNORM_TESTS_ORACLE_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <vector>

namespace oracle {

using Real = long double;
using Reals = std::vector<Real>;
using Extents = std::vector<std::int64_t>;

/// A dense tensor's extents, the order of its elements in memory, and which axis (from 0) holds the channels.
struct Geometry {
  Extents extents;
  bool row_major;
  int axis;

  int rank() const { return static_cast<int>(extents.size()); }
  std::int64_t channels() const { return extents[static_cast<std::size_t>(axis)]; }
  std::int64_t size() const {
    std::int64_t product = 1;
    for (const auto extent : extents) product *= extent;
    return product;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Geometry& g) {
  out << (g.row_major ? "RowMajor" : "ColMajor") << " [";
  for (std::size_t d = 0; d < g.extents.size(); ++d) out << (d ? ", " : "") << g.extents[d];
  return out << "], channels on axis " << g.axis;
}

/// Calls f(channel, offset in memory) for every multi-index of the tensor.
template <class F>
void for_each_element(const Geometry& g, F f) {
  if (g.size() == 0) return;
  const int rank = g.rank();
  Extents index(g.extents.size(), 0);
  const auto at = [](auto& values, int d) -> auto& { return values[static_cast<std::size_t>(d)]; };
  for (;;) {
    std::int64_t offset = 0;
    if (g.row_major) {
      for (int d = 0; d < rank; ++d) offset = offset * at(g.extents, d) + at(index, d);
    } else {
      for (int d = rank - 1; d >= 0; --d) offset = offset * at(g.extents, d) + at(index, d);
    }
    f(static_cast<std::size_t>(at(index, g.axis)), static_cast<std::size_t>(offset));
    int d = rank - 1;
    while (d >= 0 && ++at(index, d) == at(g.extents, d)) at(index, d--) = 0;
    if (d < 0) return;
  }
}

enum class SingleValue { error, skip_update, use_running, allow };

struct Settings {
  double epsilon = 1e-5;
  std::optional<double> momentum = 0.1;
  bool track = true;
  bool unbiased = true;
  SingleValue single_value = SingleValue::error;
};

/// Mean and biased variance per channel, each in a pass of its own. The mean is held as a distance from one of the
/// channel's values: at a mean of 1e6 even long double has too few digits below the point.
struct Statistics {
  Reals origin, distance, variance;
  std::int64_t count = 0;  // values per channel

  Real mean(std::size_t c) const { return origin[c] + distance[c]; }
  Real centered(std::size_t c, Real x) const { return (x - origin[c]) - distance[c]; }
};

inline Statistics statistics(const Geometry& g, const Reals& x) {
  const auto channels = static_cast<std::size_t>(g.channels());
  Statistics s{Reals(channels, 0), Reals(channels, 0), Reals(channels, 0),
               g.channels() == 0 ? 0 : g.size() / g.channels()};
  if (s.count == 0) return s;
  const auto n = static_cast<Real>(s.count);
  for_each_element(g, [&](std::size_t c, std::size_t i) { s.origin[c] = x[i]; });
  for_each_element(g, [&](std::size_t c, std::size_t i) { s.distance[c] += x[i] - s.origin[c]; });
  for (auto& distance : s.distance) distance /= n;
  for_each_element(g,
                   [&](std::size_t c, std::size_t i) { s.variance[c] += s.centered(c, x[i]) * s.centered(c, x[i]); });
  for (auto& variance : s.variance) variance /= n;
  return s;
}

/// A batch normalization layer. A layer without a scale has a weight that stays 1, one without a shift a bias of 0.
class Layer {
 public:
  Layer(const Settings& settings, std::int64_t channels)
      : weight(static_cast<std::size_t>(channels), 1),
        bias(weight.size(), 0),
        running_mean(weight.size(), 0),
        running_var(weight.size(), 1),
        weight_grad(weight.size(), 0),
        bias_grad(weight.size(), 0),
        settings_(settings) {}

  Reals weight, bias, running_mean, running_var, weight_grad, bias_grad;
  std::int64_t batches = 0;
  bool training = true;

  Reals forward(const Geometry& g, const Reals& x) {
    const bool from_batch = training || !settings_.track;
    const Statistics batch = statistics(g, x);
    constants_ = !from_batch;
    only_bias_ = false;
    if (from_batch && batch.count == 1) {
      if (settings_.single_value == SingleValue::error) throw std::logic_error("the oracle was asked for an error");
      constants_ = settings_.single_value == SingleValue::use_running;
      only_bias_ = settings_.single_value == SingleValue::skip_update;
    }
    if (constants_) {
      saved_ = Statistics{running_mean, Reals(running_mean.size(), 0), running_var, batch.count};
    } else {
      saved_ = batch;
    }
    if (training && settings_.track && !constants_ && !only_bias_ && batch.count > 0) update(batch);

    Reals y(x.size());
    for_each_element(g, [&](std::size_t c, std::size_t i) { y[i] = x_hat(c, x[i]) * weight[c] + bias[c]; });
    return y;
  }

  Reals infer(const Geometry& g, const Reals& x) const {
    Layer other = *this;
    other.training = false;
    return other.forward(g, x);
  }

  /// The chain rule through y = weight x_hat + bias, x_hat = (x - mean) / sqrt(variance + epsilon).
  Reals backward(const Geometry& g, const Reals& x, const Reals& dy) {
    const std::size_t channels = weight.size();
    const auto n = static_cast<Real>(saved_.count);
    for_each_element(g, [&](std::size_t c, std::size_t i) {
      bias_grad[c] += dy[i];
      weight_grad[c] += dy[i] * x_hat(c, x[i]);
    });
    Reals d_variance(channels, 0), d_mean(channels, 0), centered_sum(channels, 0), dx(x.size(), 0);
    if (only_bias_) return dx;  // y = bias does not depend on x
    if (!constants_) {
      for_each_element(g, [&](std::size_t c, std::size_t i) {
        d_variance[c] += dy[i] * weight[c] * saved_.centered(c, x[i]) * -inv_std(c) * inv_std(c) * inv_std(c) / 2;
        d_mean[c] += -dy[i] * weight[c] * inv_std(c);
        centered_sum[c] += saved_.centered(c, x[i]);
      });
      for (std::size_t c = 0; c < channels; ++c) d_mean[c] += d_variance[c] * -2 * centered_sum[c] / n;
    }
    for_each_element(g, [&](std::size_t c, std::size_t i) {
      dx[i] = dy[i] * weight[c] * inv_std(c);
      if (!constants_) dx[i] += d_variance[c] * 2 * saved_.centered(c, x[i]) / n + d_mean[c] / n;
    });
    return dx;
  }

  /// 1 / sqrt(variance + epsilon) of the last forward; 0 for a constant channel without epsilon.
  Real inv_std(std::size_t c) const {
    const Real squared = saved_.variance[c] + static_cast<Real>(settings_.epsilon);
    return squared == 0 ? 0 : 1 / std::sqrt(squared);
  }

 private:
  Real x_hat(std::size_t c, Real x) const { return only_bias_ ? 0 : saved_.centered(c, x) * inv_std(c); }

  void update(const Statistics& batch) {
    ++batches;
    const Real share = settings_.momentum ? static_cast<Real>(*settings_.momentum) : 1 / static_cast<Real>(batches);
    const auto n = static_cast<Real>(batch.count);
    const Real correction = settings_.unbiased && batch.count > 1 ? n / (n - 1) : 1;
    for (std::size_t c = 0; c < weight.size(); ++c) {
      running_mean[c] = (1 - share) * running_mean[c] + share * batch.mean(c);
      running_var[c] = (1 - share) * running_var[c] + share * batch.variance[c] * correction;
    }
  }

  Settings settings_;
  Statistics saved_;
  bool constants_ = false;  // the statistics of the last forward do not depend on its x
  bool only_bias_ = false;  // the last forward gave the bias
};

}  // namespace oracle

#endif  // BATCHNORM_TESTS_ORACLE_HPP
