// Batch normalization with statistics of every kind from the textbook, in long double: one element after another by its
// multi-index, of which gradients are finite differences. And the library's layer for the same case beside it.

#ifndef BATCHNORM_TESTS_STATISTICS_ORACLE_HPP
#define BATCHNORM_TESTS_STATISTICS_ORACLE_HPP

#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <optional>
#include <ostream>
#include <vector>

#include "duel.hpp"
#include "fused_kernels.hpp"

namespace statistics_oracle {

using batchnorm::Activation;
using batchnorm::affine;
using batchnorm::affine_grad;
using batchnorm::BatchNorm;
using batchnorm::BatchNormOptions;
using batchnorm::mask;
using batchnorm::sample_weight;
using batchnorm::Statistics;
using Real = long double;
using Index = Eigen::Index;

template <class T, int Layout>
using Tensor4 = Eigen::Tensor<T, 4, Layout>;

inline constexpr double epsilon = 1e-3, slope = 0.25, r_max = 1.25, d_max = 0.5, prior_count = 3;

enum class Normalize { batch, running, mixed, renorm };
enum class Weights { none, mask_of_samples, mask_of_positions, of_samples, of_positions };

inline std::ostream& operator<<(std::ostream& out, Normalize kind) { return out << static_cast<int>(kind); }
inline std::ostream& operator<<(std::ostream& out, Weights kind) { return out << static_cast<int>(kind); }

struct Case {
  std::array<Index, 4> sizes;
  int axis;
  Index group;  // samples of a ghost batch, 0 for none
  Normalize normalize;
  Weights weights;
  bool per_sample;  // weight and bias of the call
  bool activated;

  Index channels() const { return sizes[static_cast<std::size_t>(axis)]; }
  std::size_t sample_axis() const { return axis == 0 ? 3 : 0; }
  Index samples() const { return sizes[sample_axis()]; }
  bool is_mask() const { return weights == Weights::mask_of_samples || weights == Weights::mask_of_positions; }
  bool by_sample() const { return weights == Weights::mask_of_samples || weights == Weights::of_samples; }
  std::array<Index, 3> positions() const {
    std::array<Index, 3> result{};
    for (std::size_t i = 0, k = 0; i < 4; ++i) {
      if (static_cast<int>(i) != axis) result[k++] = sizes[i];
    }
    return result;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Case& c) {
  for (const auto size : c.sizes) out << size << ' ';
  return out << "channels on axis " << c.axis << ", groups of " << c.group << ", statistics " << c.normalize
             << ", weights " << c.weights << (c.per_sample ? ", parameters by sample" : "")
             << (c.activated ? ", activated" : "");
}

// An element's place: its channel, sample, and position among those of x without its channels, in row-major order.
struct Place {
  Index channel, sample, position;
  std::array<Index, 4> index;
};

inline std::vector<Place> places(const Case& c) {
  std::vector<Place> result;
  std::array<Index, 4> i{};
  for (i[0] = 0; i[0] < c.sizes[0]; ++i[0]) {
    for (i[1] = 0; i[1] < c.sizes[1]; ++i[1]) {
      for (i[2] = 0; i[2] < c.sizes[2]; ++i[2]) {
        for (i[3] = 0; i[3] < c.sizes[3]; ++i[3]) {
          Index position = 0;
          for (std::size_t k = 0; k < 4; ++k) {
            if (static_cast<int>(k) != c.axis) position = position * c.sizes[k] + i[k];
          }
          result.push_back({i[static_cast<std::size_t>(c.axis)], i[c.sample_axis()], position, i});
        }
      }
    }
  }
  return result;
}

// Everything that the oracle is handed, and how it normalizes each group's channel once it has done so.
struct Problem {
  Case c;
  std::vector<Place> at;
  std::vector<Real> weight_of_position, gamma, beta, running_mean, running_var;  // gamma, beta: [samples, channels]
  std::vector<Real> r, d;  // of renormalization, held while differences are taken; empty at first

  std::size_t parameter(const Place& place) const {
    return static_cast<std::size_t>(place.sample * c.channels() + place.channel);
  }
  Index groups() const {
    return c.group == 0 || c.normalize == Normalize::running ? 1 : (c.samples() + c.group - 1) / c.group;
  }
  std::size_t statistic(const Place& place) const {
    const Index group = groups() == 1 ? 0 : place.sample / c.group;
    return static_cast<std::size_t>(group * c.channels() + place.channel);
  }
};

struct Moments {
  std::vector<Real> mean, variance, weight, samples;
};

inline Moments moments_of(const Problem& p, const std::vector<Real>& x) {
  const auto size = static_cast<std::size_t>(p.groups() * p.c.channels());
  Moments m{std::vector<Real>(size, 0), std::vector<Real>(size, 0), std::vector<Real>(size, 0),
            std::vector<Real>(size, 0)};
  const auto w = [&](std::size_t i) { return p.weight_of_position[static_cast<std::size_t>(p.at[i].position)]; };
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (w(i) == 0) continue;
    m.weight[p.statistic(p.at[i])] += w(i);
    m.mean[p.statistic(p.at[i])] += w(i) * x[i];
  }
  for (std::size_t k = 0; k < size; ++k) m.mean[k] = m.weight[k] > 0 ? m.mean[k] / m.weight[k] : 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (w(i) == 0) continue;
    const std::size_t k = p.statistic(p.at[i]);
    m.variance[k] += w(i) * (x[i] - m.mean[k]) * (x[i] - m.mean[k]) / m.weight[k];
  }
  for (std::size_t k = 0; k < size; ++k) {
    const Index first = p.groups() == 1 ? 0 : static_cast<Index>(k) / p.c.channels() * p.c.group;
    m.samples[k] = static_cast<Real>(p.groups() == 1 ? p.c.samples() : std::min(p.c.group, p.c.samples() - first));
  }
  return m;
}

inline std::vector<Real> forward(Problem& p, const std::vector<Real>& x) {
  Moments m = moments_of(p, x);
  const std::size_t size = m.mean.size();
  const bool set = p.r.empty();
  if (set) p.r.assign(size, 1), p.d.assign(size, 0);
  std::vector<Real> scale(size);
  for (std::size_t k = 0; k < size; ++k) {
    const std::size_t c = k % static_cast<std::size_t>(p.c.channels());
    if (p.c.normalize == Normalize::running || (m.weight[k] == 0 && p.c.normalize == Normalize::mixed)) {
      m.mean[k] = p.running_mean[c];
      m.variance[k] = p.running_var[c];
    } else if (p.c.normalize == Normalize::mixed) {
      const Real n = m.samples[k], N = prior_count;
      m.mean[k] = (N * p.running_mean[c] + n * m.mean[k]) / (N + n);
      m.variance[k] = (N * p.running_var[c] + n * m.variance[k]) / (N + n);
    } else if (p.c.normalize == Normalize::renorm && set && m.weight[k] > 0) {
      const Real running = std::sqrt(p.running_var[c] + epsilon);
      p.r[k] = std::min<Real>(r_max, std::max<Real>(1 / Real(r_max), std::sqrt(m.variance[k] + epsilon) / running));
      p.d[k] = std::min<Real>(d_max, std::max<Real>(-d_max, (m.mean[k] - p.running_mean[c]) / running));
    }
    const bool nothing = m.weight[k] == 0 && p.c.normalize != Normalize::running && p.c.normalize != Normalize::mixed;
    scale[k] = nothing ? 0 : 1 / std::sqrt(m.variance[k] + Real(epsilon));
  }
  std::vector<Real> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::size_t k = p.statistic(p.at[i]), s = p.parameter(p.at[i]);
    const Real normalized = (x[i] - m.mean[k]) * scale[k] * p.r[k] + p.d[k];
    const Real v = normalized * p.gamma[s] + p.beta[s];
    const bool masked = p.c.is_mask() && p.weight_of_position[static_cast<std::size_t>(p.at[i].position)] == 0;
    y.push_back(masked ? 0 : p.c.activated && v <= 0 ? slope * v : v);
  }
  return y;
}

template <class T>
T scalar(Real value) {
  if constexpr (sizeof(T) == 2) {
    return T(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <class T>
Real real(const T& value) {
  if constexpr (sizeof(T) == 2) {
    return static_cast<Real>(static_cast<float>(value));
  } else {
    return static_cast<Real>(value);
  }
}

template <class T>
constexpr Real tolerance() {
  return std::is_same_v<T, double> ? 1e-9L : std::is_same_v<T, float> ? 2e-6L : 4e-3L;
}

// One layer, its tensors, and the calls that a case asks for.
template <class T, int Layout>
struct Subject {
  using Layer = BatchNorm<T, 4>;
  using P = typename Layer::Param;
  using Tensor = Tensor4<T, Layout>;
  Layer layer;
  Tensor x, dy, y, dx;
  Eigen::Tensor<T, 1> samples;
  Eigen::Tensor<T, 3, Layout> positions;
  Eigen::Tensor<bool, 1> mask_samples;
  Eigen::Tensor<bool, 3, Layout> mask_positions;
  Eigen::Tensor<P, 2, Eigen::RowMajor> weight, bias, dweight, dbias;

  template <class Run, class... More>
  void with_affine(const Case& c, const Run& run, const More&... more) {
    if (c.per_sample) {
      run(more..., affine(weight, bias));
    } else {
      run(more...);
    }
  }
  template <class Run>
  void with_tags(const Case& c, const Run& run) {
    switch (c.weights) {
      case Weights::none:
        return with_affine(c, run);
      case Weights::mask_of_samples:
        return with_affine(c, run, mask(mask_samples));
      case Weights::mask_of_positions:
        return with_affine(c, run, mask(mask_positions));
      case Weights::of_samples:
        return with_affine(c, run, sample_weight(samples));
      case Weights::of_positions:
        return with_affine(c, run, sample_weight(positions));
    }
  }
  template <class Device>
  void forward(const Case& c, const Device& device) {
    with_tags(c, [&](const auto&... tags) { layer.forward(device, x, y, tags...); });
  }
  template <class Device>
  void backward(const Case& c, const Device& device) {
    with_tags(c, [&](const auto&... tags) {
      if constexpr (sizeof...(tags) == 0) {
        layer.backward(device, x, dy, dx);
      } else {
        if (c.per_sample) {
          with_grads(device, tags...);
        } else {
          layer.backward(device, x, dy, dx, tags...);
        }
      }
    });
  }
  template <class Device, class... Tags>
  void with_grads(const Device& device, const Tags&... tags) {
    if constexpr ((batchnorm::detail::AffineTag::is<Tags> || ...)) {
      layer.backward(device, x, dy, dx, tags..., affine_grad(dweight, dbias));
    }
  }
};

template <class T, int Layout>
struct Setting {
  Problem p;
  Subject<T, Layout> s;
  std::vector<Real> x, dy;
};

template <class T>
auto layer_for(const Case& c) {
  BatchNormOptions options(c.channels());
  options.epsilon(epsilon).channel_axis(c.axis).single_value(batchnorm::SingleValue::allow);
  const auto group = std::max<Index>(1, c.group == 0 ? c.samples() : c.group);
  const auto grouped = options.virtual_batch_size(group);
  const Activation activation = c.activated ? Activation::leaky_relu(slope) : Activation(Activation::none);
  BatchNorm<T, 4> layer = c.normalize == Normalize::renorm
                              ? BatchNorm<T, 4>(grouped.renorm(r_max, d_max).activation(activation))
                              : BatchNorm<T, 4>(grouped.activation(activation));
  if (c.normalize == Normalize::running) layer.normalize_with(Statistics::running);
  if (c.normalize == Normalize::mixed) layer.normalize_with(Statistics::mixed(prior_count));
  return layer;
}

template <class T, int Layout>
Setting<T, Layout> setting_for(const Case& c, std::uint64_t seed) {
  Random random(seed);
  Problem p{c, places(c), {}, {}, {}, {}, {}, {}, {}};
  Subject<T, Layout> s{layer_for<T>(c), {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  for (auto* tensor : {&s.x, &s.dy, &s.y, &s.dx}) tensor->resize(c.sizes);
  std::vector<Real> x, dy;
  for (const Place& place : p.at) {
    const auto& i = place.index;
    s.x(i[0], i[1], i[2], i[3]) = scalar<T>(random.uniform(-1, 1) + 0.5 * static_cast<double>(place.channel));
    s.dy(i[0], i[1], i[2], i[3]) = scalar<T>(random.uniform(-1, 1));
    x.push_back(real(s.x(i[0], i[1], i[2], i[3])));
    dy.push_back(real(s.dy(i[0], i[1], i[2], i[3])));
  }
  // Weights that every type has exactly: multiples of a quarter up to 2, a third of them 0.
  const auto weight = [&] {
    if (c.weights == Weights::none) return 1.0;
    if (random.uniform(0, 3) < 1) return 0.0;
    return c.is_mask() ? 1.0 : std::floor(random.uniform(1, 9)) / 4;
  };
  const auto positions = c.positions();
  s.samples.resize(c.samples());
  s.mask_samples.resize(c.samples());
  s.positions.resize(positions);
  s.mask_positions.resize(positions);
  for (Index n = 0; n < c.samples(); ++n) {
    const double w = weight();
    s.samples(n) = scalar<T>(w);
    s.mask_samples(n) = w > 0;
  }
  for (Index a = 0; a < positions[0]; ++a) {
    for (Index b = 0; b < positions[1]; ++b) {
      for (Index d = 0; d < positions[2]; ++d) {
        const double w = weight();
        s.positions(a, b, d) = scalar<T>(w);
        s.mask_positions(a, b, d) = w > 0;
        const Index sample = c.axis == 0 ? d : a;
        p.weight_of_position.push_back(c.by_sample() ? real(s.samples(sample)) : real(s.positions(a, b, d)));
      }
    }
  }
  s.layer.set_running_mean(std::vector<double>(static_cast<std::size_t>(c.channels()), 0.25));
  s.layer.set_running_var(std::vector<double>(static_cast<std::size_t>(c.channels()), 0.5));
  for (auto* tensor : {&s.weight, &s.bias, &s.dweight, &s.dbias}) tensor->resize(c.samples(), c.channels());
  for (Index k = 0; k < c.channels(); ++k) {
    s.layer.weight()(k) = scalar<typename BatchNorm<T, 4>::Param>(random.uniform(0.5, 2));
    s.layer.bias()(k) = scalar<typename BatchNorm<T, 4>::Param>(random.uniform(-1, 1));
    p.running_mean.push_back(real(s.layer.running_mean()(k)));
    p.running_var.push_back(real(s.layer.running_var()(k)));
  }
  for (Index n = 0; n < c.samples(); ++n) {
    for (Index k = 0; k < c.channels(); ++k) {
      s.weight(n, k) = static_cast<typename BatchNorm<T, 4>::Param>(random.uniform(-2, 2));
      s.bias(n, k) = static_cast<typename BatchNorm<T, 4>::Param>(random.uniform(-1, 1));
      p.gamma.push_back(c.per_sample ? real(s.weight(n, k)) : real(s.layer.weight()(k)));
      p.beta.push_back(c.per_sample ? real(s.bias(n, k)) : real(s.layer.bias()(k)));
    }
  }
  return {p, s, x, dy};
}

// How far a layer's results are from the oracle's: y relative to the largest of all, the others as they are.
struct Differences {
  Real y = 0, dx = 0, running = 0, parameters = 0;

  // Within what a scalar's digits allow, of values of some units; those of gradients, sums of dozens of them.
  template <class T>
  bool fit() const {
    return y <= tolerance<T>() && dx <= 8 * tolerance<T>() && running <= 1e-6L && parameters <= 1e-5L;
  }
};

inline std::ostream& operator<<(std::ostream& out, const Differences& d) {
  return out << "y " << d.y << ", dx " << d.dx << ", running statistics " << d.running << ", gradients of parameters "
             << d.parameters;
}

// Forward and backward beside the oracle, the running statistics included.
template <class T, int Layout>
Differences compare(const Case& c, std::uint64_t seed) {
  Differences result;
  const auto relative = [](Real found, Real exact) {
    return std::abs(found - exact) / std::max<Real>(1, std::abs(exact));
  };
  const auto keep = [](Real& largest, Real difference) {
    if (!(difference <= largest)) largest = difference;  // a NaN stays
  };
  Setting<T, Layout> setting = setting_for<T, Layout>(c, seed);
  Problem& p = setting.p;
  Subject<T, Layout>& s = setting.s;
  std::vector<Real>&x = setting.x, &dy = setting.dy;
  const auto at = [&](const Tensor4<T, Layout>& tensor, std::size_t k) {
    const auto& i = p.at[k].index;
    return real(tensor(i[0], i[1], i[2], i[3]));
  };
  const Eigen::DefaultDevice device;
  s.forward(c, device);
  const std::vector<Real> y = forward(p, x);
  Real largest = 1;
  for (std::size_t i = 0; i < y.size(); ++i) largest = std::max(largest, std::abs(y[i]));
  for (std::size_t i = 0; i < y.size(); ++i) keep(result.y, std::abs(at(s.y, i) - y[i]) / largest);

  // The mean of all values, and the mean of the groups' unbiased variances, each weighing what it weighs.
  Problem grouped = p;
  if (c.normalize == Normalize::running) grouped.c.normalize = Normalize::batch;
  const Moments m = moments_of(grouped, x);
  std::vector<Real> mean(p.running_mean.size(), 0), variance(mean), weight(mean);
  for (std::size_t k = 0; k < m.mean.size(); ++k) {
    const std::size_t ch = k % mean.size();
    weight[ch] += m.weight[k];
    mean[ch] += m.weight[k] * m.mean[k];
    if (m.weight[k] > 1) variance[ch] += m.weight[k] * m.variance[k] * m.weight[k] / (m.weight[k] - 1);
  }
  for (std::size_t ch = 0; ch < mean.size(); ++ch) {
    if (weight[ch] == 0) continue;
    keep(result.running, std::abs(real(s.layer.running_mean()(static_cast<Index>(ch))) -
                                  (0.9L * p.running_mean[ch] + 0.1L * mean[ch] / weight[ch])));
    keep(result.running, std::abs(real(s.layer.running_var()(static_cast<Index>(ch))) -
                                  (0.9L * p.running_var[ch] + 0.1L * variance[ch] / weight[ch])));
  }

  // d(sum dy y) / d(value), by central differences of a step so small that their error is some 1e-10 where the third
  // derivative is 1e4.
  const auto derivative = [&](Real& value) {
    const Real before = value, h = 1e-7L;
    Real slope_at = 0;
    for (const Real sign : {1.0L, -1.0L}) {
      value = before + sign * h;
      const std::vector<Real> found = forward(p, x);
      for (std::size_t i = 0; i < found.size(); ++i) slope_at += sign * dy[i] * found[i] / (2 * h);
    }
    value = before;
    return slope_at;
  };
  s.backward(c, device);
  for (std::size_t i = 0; i < x.size(); ++i) keep(result.dx, std::abs(at(s.dx, i) - derivative(x[i])));

  // Gradients of the parameters: of each sample, or their sums.
  std::vector<Real> dgamma, dbeta;
  for (std::size_t k = 0; k < p.gamma.size(); ++k) {
    dgamma.push_back(derivative(p.gamma[k]));
    dbeta.push_back(derivative(p.beta[k]));
  }
  const auto channels = static_cast<std::size_t>(c.channels());
  if (c.per_sample) {
    for (std::size_t k = 0; k < dgamma.size(); ++k) {
      keep(result.parameters, relative(real(s.dweight.data()[k]), dgamma[k]));
      keep(result.parameters, relative(real(s.dbias.data()[k]), dbeta[k]));
    }
  } else {
    for (std::size_t ch = 0; ch < channels; ++ch) {
      Real of_weight = 0, of_bias = 0;
      for (std::size_t k = ch; k < dgamma.size(); k += channels) of_weight += dgamma[k], of_bias += dbeta[k];
      keep(result.parameters, relative(real(s.layer.weight_grad()(static_cast<Index>(ch))), of_weight));
      keep(result.parameters, relative(real(s.layer.bias_grad()(static_cast<Index>(ch))), of_bias));
    }
  }
  return result;
}

}  // namespace statistics_oracle

#endif  // BATCHNORM_TESTS_STATISTICS_ORACLE_HPP
