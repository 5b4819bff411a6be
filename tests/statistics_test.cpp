// Every way to take statistics: switches, masks and weights, ghost batches, renormalization, mixed statistics, and
// parameters of the call. The oracle is the forward from the textbook in long double, one element after another by its
// multi-index; gradients are its finite differences.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "catch.hpp"
#include "duel.hpp"
#include "fused_kernels.hpp"

namespace {

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

constexpr double epsilon = 1e-3, slope = 0.25, r_max = 1.25, d_max = 0.5, prior_count = 3;

enum class Normalize { batch, running, mixed, renorm };
enum class Weights { none, mask_of_samples, mask_of_positions, of_samples, of_positions };

std::ostream& operator<<(std::ostream& out, Normalize kind) { return out << static_cast<int>(kind); }
std::ostream& operator<<(std::ostream& out, Weights kind) { return out << static_cast<int>(kind); }

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

std::ostream& operator<<(std::ostream& out, const Case& c) {
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

std::vector<Place> places(const Case& c) {
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

Moments moments_of(const Problem& p, const std::vector<Real>& x) {
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

std::vector<Real> forward(Problem& p, const std::vector<Real>& x) {
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

// Forward and backward beside the oracle, the running statistics included.
template <class T, int Layout>
void check_case(const Case& c, std::uint64_t seed) {
  INFO(c << ", seed " << seed);
  auto [p, s, x, dy] = setting_for<T, Layout>(c, seed);
  const auto at = [&](const Tensor4<T, Layout>& tensor, std::size_t k) {
    const auto& i = p.at[k].index;
    return real(tensor(i[0], i[1], i[2], i[3]));
  };
  const Eigen::DefaultDevice device;
  s.forward(c, device);
  const std::vector<Real> y = forward(p, x);
  Real off = 0, largest = 1;
  for (std::size_t i = 0; i < y.size(); ++i) largest = std::max(largest, std::abs(y[i]));
  for (std::size_t i = 0; i < y.size(); ++i) off = std::max(off, std::abs(at(s.y, i) - y[i]));
  CHECK(off <= tolerance<T>() * largest);

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
    CHECK(std::abs(real(s.layer.running_mean()(static_cast<Index>(ch))) -
                   (0.9L * p.running_mean[ch] + 0.1L * mean[ch] / weight[ch])) <= 1e-6L);
    CHECK(std::abs(real(s.layer.running_var()(static_cast<Index>(ch))) -
                   (0.9L * p.running_var[ch] + 0.1L * variance[ch] / weight[ch])) <= 1e-6L);
  }

  // d(sum dy y) / d(value), by central differences of a step so small that their error is some 1e-12.
  const auto derivative = [&](Real& value) {
    const Real before = value, h = 1e-6L;
    Real result = 0;
    for (const Real sign : {1.0L, -1.0L}) {
      value = before + sign * h;
      const std::vector<Real> found = forward(p, x);
      for (std::size_t i = 0; i < found.size(); ++i) result += sign * dy[i] * found[i] / (2 * h);
    }
    value = before;
    return result;
  };
  s.backward(c, device);
  off = 0;
  for (std::size_t i = 0; i < x.size(); ++i) off = std::max(off, std::abs(at(s.dx, i) - derivative(x[i])));
  CHECK(off <= tolerance<T>() * 8);

  // Gradients of the parameters: of each sample, or their sums.
  std::vector<Real> dgamma, dbeta;
  for (std::size_t k = 0; k < p.gamma.size(); ++k) {
    dgamma.push_back(derivative(p.gamma[k]));
    dbeta.push_back(derivative(p.beta[k]));
  }
  const auto channels = static_cast<std::size_t>(c.channels());
  if (c.per_sample) {
    for (std::size_t k = 0; k < dgamma.size(); ++k) {
      CHECK(std::abs(real(s.dweight.data()[k]) - dgamma[k]) <= 1e-5L);
      CHECK(std::abs(real(s.dbias.data()[k]) - dbeta[k]) <= 1e-5L);
    }
  } else {
    for (std::size_t ch = 0; ch < channels; ++ch) {
      Real of_weight = 0, of_bias = 0;
      for (std::size_t k = ch; k < dgamma.size(); k += channels) of_weight += dgamma[k], of_bias += dbeta[k];
      CHECK(std::abs(real(s.layer.weight_grad()(static_cast<Index>(ch))) - of_weight) <= 1e-5L);
      CHECK(std::abs(real(s.layer.bias_grad()(static_cast<Index>(ch))) - of_bias) <= 1e-5L);
    }
  }
}

template <class T, int Layout>
void check_cases(std::uint64_t seed, int count) {
  Random random(seed);
  const auto pick = [&](int n) { return static_cast<int>(random.uniform(0, n)); };
  for (int k = 0; k < count; ++k) {
    Case c{};
    for (auto& size : c.sizes) size = 1 + pick(4);
    c.axis = pick(4);
    if (pick(4) == 0) c.sizes[static_cast<std::size_t>(c.axis)] = 20;            // wide
    if (pick(4) == 0) c.sizes[static_cast<std::size_t>((c.axis + 1) % 4)] = 18;  // long rows, or columns
    c.group = pick(3) == 0 ? 0 : 1 + pick(3);
    c.normalize = static_cast<Normalize>(pick(4));
    c.weights = static_cast<Weights>(pick(5));
    c.per_sample = pick(3) == 0;
    c.activated = pick(3) == 0;
    try {
      check_case<T, Layout>(c, seed + static_cast<std::uint64_t>(k));
    } catch (const std::invalid_argument& error) {
      INFO(c << ": " << error.what());
      // Of so few weights that they do not count samples there is no unbiased variance.
      CHECK(std::string(error.what()).find("that count samples") != std::string::npos);
    }
  }
}

}  // namespace

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in double") {
  check_cases<double, Eigen::RowMajor>(1, 80);
  check_cases<double, Eigen::ColMajor>(2, 80);
}

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in float") {
  check_cases<float, Eigen::RowMajor>(3, 40);
}

TEST_CASE("every combination of statistics, weights and parameters has the oracle's outputs and gradients in half") {
  check_cases<Eigen::half, Eigen::RowMajor>(4, 30);
}

namespace {

using Tensor = Tensor4<double, Eigen::RowMajor>;
using Layer = BatchNorm<double, 4>;

Tensor random_tensor(Random& random, const std::array<Index, 4>& sizes) {
  Tensor result(sizes);
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = random.uniform(-1, 1);
  return result;
}

Tensor samples_of(const Tensor& x, Index begin, Index end) {
  const Index each = x.size() / x.dimension(0);
  Tensor result(end - begin, x.dimension(1), x.dimension(2), x.dimension(3));
  std::copy_n(x.data() + begin * each, result.size(), result.data());
  return result;
}

double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.size() == b.size());
  double result = 0;
  for (Index i = 0; i < a.size(); ++i) result = std::max(result, std::abs(a.data()[i] - b.data()[i]));
  return result;
}

template <class Values>
bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(*a.data()) * static_cast<std::size_t>(a.size())) == 0;
}

template <class Exception, class Call>
std::string message(const Call& call) {
  try {
    call();
  } catch (const Exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("each combination of mode and switches normalizes by its statistics and moves the running ones or not") {
  enum class Mode { train, eval };
  struct Row {
    Mode mode;
    std::optional<Statistics> asked;
    std::optional<bool> update;
    Statistics normalizes;
    bool moves;
  };
  const Statistics batch = Statistics::batch, running = Statistics::running, mixed = Statistics::mixed(4);
  const std::vector<Row> table = {
      {Mode::train, {}, {}, batch, true},
      {Mode::train, {}, false, batch, false},
      {Mode::train, {}, true, batch, true},
      {Mode::train, running, {}, running, true},
      {Mode::train, running, false, running, false},
      {Mode::train, running, true, running, true},
      {Mode::train, batch, false, batch, false},
      {Mode::train, mixed, {}, mixed, true},
      {Mode::train, mixed, false, mixed, false},
      {Mode::eval, {}, {}, running, false},
      {Mode::eval, {}, true, running, true},
      {Mode::eval, {}, false, running, false},
      {Mode::eval, batch, {}, batch, false},
      {Mode::eval, batch, true, batch, true},
      {Mode::eval, running, true, running, true},
      {Mode::eval, mixed, {}, mixed, false},
      {Mode::eval, mixed, true, mixed, true},
  };
  Random random(11);
  const Tensor x = random_tensor(random, {8, 3, 2, 2}), dy = random_tensor(random, {8, 3, 2, 2});
  for (std::size_t k = 0; k < table.size(); ++k) {
    const Row& row = table[k];
    INFO("row " << k);
    Layer layer(3);
    layer.set_running_mean({0.25, -0.5, 0.125}).set_running_var({2.0, 0.5, 1.0});
    if (row.asked) layer.normalize_with(*row.asked);
    if (row.update) layer.update_running_stats(*row.update);
    // Switches survive the mode, whichever comes last.
    layer.train(row.mode == Mode::eval).train(row.mode == Mode::train);
    Tensor copy = x;
    layer.forward(copy, copy);  // in place: the batch's moments are taken before x is gone
    const Tensor inferred = Layer(layer).infer(x);
    for (Index c = 0; c < 3; ++c) {
      Real mean = 0, variance = 0;
      const auto each = [&](const auto& f) {
        for (Index n = 0; n < 8; ++n) {
          for (Index i = 0; i < 4; ++i) f(n, i / 2, i % 2);
        }
      };
      each([&](Index n, Index i, Index j) { mean += x(n, c, i, j) / 32.0L; });
      each([&](Index n, Index i, Index j) { variance += (x(n, c, i, j) - mean) * (x(n, c, i, j) - mean) / 32.0L; });
      const Real old_mean = c == 0 ? 0.25L : c == 1 ? -0.5L : 0.125L, old_variance = c == 0 ? 2 : c == 1 ? 0.5L : 1;
      const Real new_mean = row.moves ? 0.9L * old_mean + 0.1L * mean : old_mean;
      const Real new_variance = row.moves ? 0.9L * old_variance + 0.1L * variance * 32 / 31 : old_variance;
      CHECK(std::abs(layer.running_mean()(c) - new_mean) < 1e-14L);
      CHECK(std::abs(layer.running_var()(c) - new_variance) < 1e-14L);
      const auto normalized = [&](const Statistics& by, Real running_mean, Real running_variance) {
        const Real share = by.is_mixed() ? 8.0L / 12 : by == batch ? 1 : 0;
        return (x(3, c, 1, 0) - (share * mean + (1 - share) * running_mean)) /
               std::sqrt(share * variance + (1 - share) * running_variance + 1e-5L);
      };
      CHECK(std::abs(copy(3, c, 1, 0) - normalized(row.normalizes, old_mean, old_variance)) < 1e-13L);
      // infer obeys what was asked for, else it is inference; by the running statistics as they are now.
      CHECK(std::abs(inferred(3, c, 1, 0) - normalized(row.asked.value_or(running), new_mean, new_variance)) < 1e-13L);
    }
    CHECK(layer.num_batches_tracked() == (row.moves ? 1 : 0));
    CHECK(layer.saved_statistics().constant() == (row.normalizes == running));
    layer.follow_mode();
    CHECK_FALSE(layer.normalize_with().has_value());
    CHECK_FALSE(layer.update_running_stats().has_value());
  }
}

TEST_CASE("a forward done again with updates switched off gives the same bits and leaves the running statistics") {
  Random random(12);
  const Tensor x = random_tensor(random, {4, 3, 2, 2}), dy = random_tensor(random, {4, 3, 2, 2});
  Layer layer(3);
  const Tensor y = layer.forward(x);
  const auto mean = layer.running_mean();
  layer.update_running_stats(false);
  CHECK(same_bits(layer.forward(x), y));
  CHECK(same_bits(layer.running_mean(), mean));
  CHECK(layer.num_batches_tracked() == 1);
}

TEST_CASE("what is asked of a layer without running statistics is an error that names the option") {
  Random random(13);
  const Tensor x = random_tensor(random, {4, 3, 2, 2});
  Layer layer(BatchNormOptions(3).track_running_stats(false));
  for (const Statistics& statistics : {Statistics(Statistics::running), Statistics::mixed(2)}) {
    layer.normalize_with(statistics);
    CHECK(contains(message<std::logic_error>([&] { layer.forward(x); }), "track_running_stats(false)"));
    CHECK(contains(message<std::logic_error>([&] { layer.infer(x); }), "track_running_stats(false)"));
  }
  CHECK_FALSE(layer.saved_statistics().has_forward());
  CHECK(contains(message<std::invalid_argument>([&] { layer.renorm(2, 1); }), "track_running_stats(true)"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(Statistics::mixed(-1)); }), "got -1"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).renorm(0.5, 1)); }),
                 "expected a finite r_max of at least 1, got 0.5"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).renorm(2, -1)); }),
                 "d_max of at least 0, got -1"));
  CHECK(contains(message<std::invalid_argument>([] { static_cast<void>(BatchNormOptions(3).virtual_batch_size(0)); }),
                 "virtual_batch_size of at least 1, got 0"));
  const BatchNormOptions copy = BatchNormOptions(3).virtual_batch_size(2);
  CHECK(contains(message<std::invalid_argument>([&] { Layer other(copy); }), "keep them as auto"));
}

TEST_CASE("a NaN or an infinity under a mask or weight 0 leaks into nothing") {
  const double bad[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()};
  for (const double value : bad) {
    for (const bool is_mask : {true, false}) {
      for (const Index inner : {1, 3, 20}) {  // by columns, and by rows
        INFO(value << (is_mask ? " under a mask, " : " under weight 0, ") << inner);
        Random random(14);
        Tensor x = random_tensor(random, {6, 5, inner, 1}), dy = random_tensor(random, {6, 5, inner, 1});
        Tensor clean_x = x, clean_dy = dy;
        Eigen::Tensor<double, 3, Eigen::RowMajor> w(6, inner, 1);
        w.setConstant(1);
        for (const Index n : {0, 2, 5}) {
          w(n, inner - 1, 0) = 0;
          for (Index c = 0; c < 5; ++c) {
            x(n, c, inner - 1, 0) = dy(n, c, inner - 1, 0) = value;
            clean_x(n, c, inner - 1, 0) = 7;
            clean_dy(n, c, inner - 1, 0) = 0;
          }
        }
        Layer layer(5), other(5);
        Tensor y, dx, clean_y, clean_dx;
        if (is_mask) {
          y = layer.forward(x, mask(w)), dx = layer.backward(x, dy, mask(w));
          clean_y = other.forward(clean_x, mask(w)), clean_dx = other.backward(clean_x, clean_dy, mask(w));
        } else {
          y = layer.forward(x, sample_weight(w)), dx = layer.backward(x, dy, sample_weight(w));
          clean_y = other.forward(clean_x, sample_weight(w));
          clean_dx = other.backward(clean_x, clean_dy, sample_weight(w));
        }
        for (Index n = 0; n < 6; ++n) {
          for (Index c = 0; c < 5; ++c) {
            for (Index i = 0; i < inner; ++i) {
              if (w(n, i, 0) == 0) {
                if (is_mask) {
                  CHECK(y(n, c, i, 0) == 0);
                  CHECK(dx(n, c, i, 0) == 0);
                }
                continue;
              }
              CHECK(y(n, c, i, 0) == clean_y(n, c, i, 0));
              CHECK(dx(n, c, i, 0) == clean_dx(n, c, i, 0));
            }
          }
        }
        CHECK(same_bits(layer.running_mean(), other.running_mean()));
        CHECK(same_bits(layer.running_var(), other.running_var()));
        CHECK(same_bits(layer.weight_grad(), other.weight_grad()));
        CHECK(same_bits(layer.bias_grad(), other.bias_grad()));
        const Tensor inferred = layer.infer(x, mask(w));
        CHECK(inferred(0, 0, inner - 1, 0) == 0);
      }
    }
  }
}

TEST_CASE("integer weights give what samples give that are repeated as often") {
  Random random(15);
  const Tensor x = random_tensor(random, {5, 3, 2, 2}), dy = random_tensor(random, {5, 3, 2, 2});
  const std::vector<int> times = {1, 3, 0, 2, 1};
  Tensor repeated(7, 3, 2, 2), repeated_dy(7, 3, 2, 2);
  std::vector<Index> origin;
  for (Index n = 0; n < 5; ++n) {
    for (int k = 0; k < times[static_cast<std::size_t>(n)]; ++k) origin.push_back(n);
  }
  for (Index n = 0; n < 7; ++n) {
    const Index from = origin[static_cast<std::size_t>(n)];
    for (Index i = 0; i < 12; ++i) {
      repeated.data()[n * 12 + i] = x.data()[from * 12 + i];
      // k copies share the gradient of what they are copies of.
      repeated_dy.data()[n * 12 + i] = dy.data()[from * 12 + i] / times[static_cast<std::size_t>(from)];
    }
  }
  Tensor weighted_dy = dy;
  for (Index i = 0; i < 12; ++i) weighted_dy.data()[2 * 12 + i] = 0;  // of no copy there is no gradient
  Layer layer(3), other(3);
  const Tensor y = layer.forward(x, sample_weight(times)), dx = layer.backward(x, weighted_dy, sample_weight(times));
  const Tensor other_y = other.forward(repeated), other_dx = other.backward(repeated, repeated_dy);
  for (Index n = 0; n < 7; ++n) {
    const Index from = origin[static_cast<std::size_t>(n)];
    CHECK(largest_difference(samples_of(y, from, from + 1), samples_of(other_y, n, n + 1)) < 1e-14);
  }
  for (Index from : {0, 1, 3, 4}) {
    Tensor sum(1, 3, 2, 2);
    sum.setZero();
    for (Index n = 0; n < 7; ++n) {
      if (origin[static_cast<std::size_t>(n)] == from) sum += samples_of(other_dx, n, n + 1);
    }
    CHECK(largest_difference(samples_of(dx, from, from + 1), sum) < 1e-14);
  }
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::abs(layer.running_mean()(c) - other.running_mean()(c)) < 1e-15);
    CHECK(std::abs(layer.running_var()(c) - other.running_var()(c)) < 1e-15);
    CHECK(std::abs(layer.weight_grad()(c) - other.weight_grad()(c)) < 1e-14);
  }
}

TEST_CASE("ghost batches give the bits of separate layers, and the running statistics move once") {
  Random random(16);
  const Tensor x = random_tensor(random, {10, 4, 3, 2}), dy = random_tensor(random, {10, 4, 3, 2});
  Layer layer(BatchNormOptions(4).virtual_batch_size(4));
  const Tensor y = layer.forward(x), dx = layer.backward(x, dy);
  CHECK(layer.num_batches_tracked() == 1);
  CHECK(layer.saved_statistics().mean().size() == 12);
  for (Index begin = 0, group = 0; begin < 10; begin += 4, ++group) {
    const Index end = std::min<Index>(10, begin + 4);
    Layer alone(4);
    const Tensor part = samples_of(x, begin, end);
    CHECK(same_bits(samples_of(y, begin, end), alone.forward(part)));
    CHECK(largest_difference(samples_of(dx, begin, end), alone.backward(part, samples_of(dy, begin, end))) < 1e-14);
    for (Index c = 0; c < 4; ++c) {
      CHECK(layer.saved_statistics().mean()(group * 4 + c) == alone.saved_statistics().mean()(c));
    }
  }
}

TEST_CASE("renormalization by 1 and 0 is plain batch normalization, and clipped_share counts what is clipped") {
  Random random(17);
  const Tensor x = random_tensor(random, {10, 4, 3, 2}), dy = random_tensor(random, {10, 4, 3, 2});
  Layer renormalized(BatchNormOptions(4).renorm(1, 0)), plain(4);
  CHECK(renormalized.clipped_share() == 0);
  CHECK(same_bits(renormalized.forward(x), plain.forward(x)));
  CHECK(largest_difference(renormalized.backward(x, dy), plain.backward(x, dy)) < 1e-14);
  CHECK(same_bits(renormalized.running_var(), plain.running_var()));
  CHECK(renormalized.clipped_share() == 1);
  // Two channels have the running statistics of the batch, so that nothing is to clip there.
  for (Index c = 0; c < 2; ++c) {
    renormalized.running_mean()(c) = plain.saved_statistics().mean()(c);
    renormalized.running_var()(c) = std::pow(plain.saved_statistics().inv_std()(c), -2) - 1e-5;
  }
  renormalized.renorm(1.0 + 1e-9, 1e-9).update_running_stats(false).forward(x);
  CHECK(renormalized.clipped_share() == 0.5);
  renormalized.renorm(100, 100).forward(x);
  CHECK(renormalized.clipped_share() == 0);
  // With limits that do not bind, training gives what inference gives.
  CHECK(largest_difference(renormalized.forward(x), renormalized.infer(x)) < 1e-13);
}

TEST_CASE("a batch of which everything is masked behaves as an empty one") {
  Random random(18);
  const Tensor x = random_tensor(random, {3, 4, 2, 2}), dy = random_tensor(random, {3, 4, 2, 2});
  const std::vector<bool> nothing(3, false);
  Layer layer(4);
  Tensor y = layer.forward(x, mask(nothing)), dx = layer.backward(x, dy, mask(nothing));
  const Tensor zero = x * 0.0;
  CHECK(largest_difference(y, zero) == 0);
  CHECK(largest_difference(dx, zero) == 0);
  CHECK(layer.num_batches_tracked() == 0);
  CHECK(layer.running_var()(0) == 1);
  CHECK(layer.weight_grad()(0) == 0);
  // Weights that are all 0 leave nothing to normalize by: y is the bias.
  layer.bias().setConstant(0.5);
  y = layer.forward(x, sample_weight(std::vector<double>(3, 0.0)));
  CHECK(y(2, 1, 1, 1) == 0.5);
  CHECK(layer.num_batches_tracked() == 0);
}

TEST_CASE("what single values mean is asked of what takes part") {
  Random random(19);
  const Tensor x = random_tensor(random, {3, 4, 1, 1});
  const std::vector<int> one = {0, 1, 0};
  Layer strict(4), lenient(BatchNormOptions(4).single_value(batchnorm::SingleValue::allow));
  CHECK(contains(message<std::invalid_argument>([&] { strict.forward(x, mask(one)); }), "more than one value"));
  lenient.forward(x, mask(one));
  CHECK(lenient.running_var()(0) == 0.9);
  CHECK(lenient.num_batches_tracked() == 1);
  Layer grouped(BatchNormOptions(4).virtual_batch_size(2));  // the last group has one value
  CHECK(contains(message<std::invalid_argument>([&] { grouped.forward(x); }), "more than one value"));
  CHECK(
      contains(message<std::invalid_argument>([&] { strict.forward(x, sample_weight(std::vector<double>(3, 0.25))); }),
               "a sum above 1"));
  CHECK(strict.num_batches_tracked() == 0);
  CHECK_FALSE(strict.saved_statistics().has_forward());
}

TEST_CASE("wrong masks, weights and parameters are errors that say what was expected, and change nothing") {
  Random random(20);
  const Tensor x = random_tensor(random, {3, 4, 2, 5}), dy = random_tensor(random, {3, 4, 2, 5});
  Layer layer(4);
  const auto thrown = [&](const auto&... tags) {
    return message<std::invalid_argument>([&] { layer.forward(x, tags...); });
  };
  CHECK(contains(thrown(mask(std::vector<bool>(4))), "the mask of 3 samples, got 4"));
  CHECK(contains(thrown(sample_weight(Eigen::VectorXd(2))), "the sample weights of 3 samples, got 2"));
  CHECK(contains(thrown(mask(Eigen::Tensor<bool, 3, Eigen::RowMajor>(3, 5, 2))), "[3, 2, 5], got [3, 5, 2]"));
  CHECK(contains(thrown(mask(std::vector<double>{0, 1, 0.5})), "a mask of 0 and 1, got another value at place 2"));
  CHECK(contains(thrown(sample_weight(std::vector<double>{1, -1, 1})), "at least 0, got another value at place 1"));
  CHECK(contains(thrown(sample_weight(std::vector<float>{1, std::nanf(""), 1})), "at place 1"));
  CHECK(contains(thrown(sample_weight(std::vector<double>{1, 1, HUGE_VAL})), "at place 2"));
  CHECK(
      contains(thrown(affine(Eigen::VectorXd::Ones(3).eval(), Eigen::VectorXd::Zero(4).eval())), "4 channels, got 3"));
  CHECK(contains(thrown(affine(Eigen::MatrixXd(3, 4), Eigen::MatrixXd(4, 3))), "[3, 4], got [4, 3]"));
  CHECK_FALSE(layer.saved_statistics().has_forward());
  CHECK(layer.num_batches_tracked() == 0);

  const std::vector<int> m = {1, 1, 0}, other = {1, 0, 0};
  layer.forward(x, mask(m));
  const auto refused = [&](const auto&... tags) {
    return message<std::logic_error>([&] { layer.backward(x, dy, tags...); });
  };
  CHECK(contains(refused(), "expected mask(m) in backward"));
  CHECK(contains(refused(sample_weight(m)), "expected mask(m) in backward, as in its forward, got sample_weight(w)"));
  CHECK(contains(refused(mask(other)), "another sum"));
  layer.forward(x);
  CHECK(contains(refused(mask(m)), "expected neither mask(m) nor sample_weight(w)"));
  const Eigen::VectorXd weight = Eigen::VectorXd::Ones(4);
  CHECK(contains(refused(affine(weight, weight)), "got affine(weight, bias)"));
  layer.forward(x, affine(weight, weight));
  CHECK(contains(refused(), "expected affine(weight, bias)"));
  CHECK(layer.weight_grad()(0) == 0);
}

TEST_CASE("a call's parameters per channel are those of a layer, and leave the layer's own alone") {
  Random random(21);
  const Tensor x = random_tensor(random, {6, 4, 2, 5}), dy = random_tensor(random, {6, 4, 2, 5});
  Eigen::VectorXd weight(4), bias(4), dweight(4), dbias(4);
  for (Index c = 0; c < 4; ++c) weight(c) = random.uniform(-1, 1), bias(c) = random.uniform(-1, 1);
  Layer layer(BatchNormOptions(4).affine(false)), other(4);
  other.set_weight(weight).set_bias(bias);
  CHECK(same_bits(layer.forward(x, affine(weight, bias)), other.forward(x)));
  const Tensor dx = layer.backward(x, dy, affine(weight, bias), affine_grad(dweight, dbias));
  CHECK(largest_difference(dx, other.backward(x, dy)) < 1e-14);
  for (Index c = 0; c < 4; ++c) {
    CHECK(std::abs(dweight(c) - other.weight_grad()(c)) < 1e-13);
    CHECK(std::abs(dbias(c) - other.bias_grad()(c)) < 1e-13);
  }
  CHECK(same_bits(layer.infer(x, affine(weight, bias)), other.infer(x)));
}

TEST_CASE("extended passes give the same bits on any number of threads, in either layout") {
  const auto check = [](auto layout, int axis) {
    using X = Tensor4<float, decltype(layout)::value>;
    Random random(22);
    X x(24, 96, 16, 20), dy(24, 96, 16, 20);
    if (axis == 3) x.resize(24, 16, 20, 96), dy.resize(24, 16, 20, 96);
    for (Index i = 0; i < x.size(); ++i) {
      x.data()[i] = static_cast<float>(random.uniform(-1, 3));
      dy.data()[i] = static_cast<float>(random.uniform(-1, 1));
    }
    std::vector<float> w(24);
    for (auto& value : w) value = static_cast<float>(std::floor(random.uniform(0, 4)));
    Eigen::Tensor<float, 2, Eigen::RowMajor> weight(24, 96), bias(24, 96);
    weight.setRandom();
    bias.setRandom();
    const auto run = [&](const auto& device) {
      BatchNorm<float, 4> layer(BatchNormOptions(96).channel_axis(axis).virtual_batch_size(7));
      X y(x.dimensions()), dx(x.dimensions());
      layer.forward(device, x, y, sample_weight(w), affine(weight, bias));
      layer.backward(device, x, dy, dx, sample_weight(w), affine(weight, bias));
      std::vector<float> all(y.data(), y.data() + y.size());
      all.insert(all.end(), dx.data(), dx.data() + dx.size());
      all.insert(all.end(), layer.running_var().data(), layer.running_var().data() + 96);
      return all;
    };
    const auto alone = run(Eigen::DefaultDevice());
    for (const int threads : {2, 3, 5}) {
      Eigen::ThreadPool pool(threads);
      INFO(threads << " threads, channels on axis " << axis);
      CHECK(same_bits(run(Eigen::ThreadPoolDevice(&pool, threads)), alone));
    }
  };
  check(std::integral_constant<int, Eigen::RowMajor>(), 1);
  check(std::integral_constant<int, Eigen::RowMajor>(), 3);
  check(std::integral_constant<int, Eigen::ColMajor>(), 1);
}

TEST_CASE("matrices take masks, weights, ghost batches and parameters of the call as tensors do, blocks in place") {
  Random random(23);
  const Index n = 21, channels = 5;
  for (const int axis : {1, 0}) {
    Eigen::MatrixXd big(n + 3, n + 4), dbig(n + 3, n + 4);
    for (Index i = 0; i < big.size(); ++i)
      big.data()[i] = random.uniform(-1, 1), dbig.data()[i] = random.uniform(-1, 1);
    const Eigen::MatrixXd before = big;
    const Index rows = axis == 1 ? n : channels, columns = axis == 1 ? channels : n;
    auto x = big.block(1, 2, rows, columns);
    const auto dy = dbig.block(0, 1, rows, columns);
    Eigen::Tensor<double, 2> tensor(rows, columns), tensor_dy(rows, columns);
    for (Index j = 0; j < columns; ++j) {
      for (Index i = 0; i < rows; ++i) tensor(i, j) = x(i, j), tensor_dy(i, j) = dy(i, j);
    }
    Eigen::Array<bool, Eigen::Dynamic, 1> m(n);
    Eigen::MatrixXd weight(n, channels), bias(n, channels), dweight(n, channels), dbias(n, channels);
    for (Index i = 0; i < n; ++i) m(i) = random.uniform(0, 1) < 0.7;
    for (Index i = 0; i < weight.size(); ++i) weight.data()[i] = random.uniform(-1, 1), bias.data()[i] = random.uniform(-1, 1);
    const auto options =
        BatchNormOptions(channels).channel_axis(axis).virtual_batch_size(8).activation(Activation::relu);
    BatchNorm<double, 2> layer(options), other(options);
    const Eigen::MatrixXd y = layer.forward(x, mask(m), affine(weight, bias));
    const Eigen::Tensor<double, 2> expected = other.forward(tensor, mask(m), affine(weight, bias));
    CHECK(same_bits(y, Eigen::MatrixXd(Eigen::Map<const Eigen::MatrixXd>(expected.data(), rows, columns))));
    Eigen::MatrixXd dx(rows, columns);
    layer.backward(x, dy, dx, mask(m), affine(weight, bias), affine_grad(dweight, dbias));
    const Eigen::Tensor<double, 2> expected_dx = other.backward(tensor, tensor_dy, mask(m), affine(weight, bias));
    CHECK(same_bits(dx, Eigen::MatrixXd(Eigen::Map<const Eigen::MatrixXd>(expected_dx.data(), rows, columns))));
    layer.forward(x, x, mask(m), affine(weight, bias));  // in place
    CHECK(Eigen::MatrixXd(x) == y);
    x = before.block(1, 2, rows, columns);
    CHECK(big == before);  // no neighbour was touched
  }
}

TEST_CASE("weighted moments are those of repeated samples, and pool with others by what they weigh") {
  Random random(24);
  const Tensor x = random_tensor(random, {5, 3, 2, 2});
  const std::vector<int> times = {1, 3, 0, 2, 1};
  batchnorm::Moments weighted(3), repeated(3);
  weighted.add(x, sample_weight(times)).add(x, mask(std::vector<bool>{true, false, true, false, false}));
  for (Index n = 0; n < 5; ++n) {
    const int also = n == 0 || n == 2 ? 1 : 0;
    for (int k = 0; k < times[static_cast<std::size_t>(n)] + also; ++k) repeated.add(samples_of(x, n, n + 1));
  }
  CHECK(weighted.total_weight() == static_cast<double>(repeated.count()));
  CHECK(weighted.count() == (4 + 2) * 4);  // values of weight above 0
  for (Index c = 0; c < 3; ++c) {
    CHECK(std::abs(weighted.mean()(c) - repeated.mean()(c)) < 1e-15);
    CHECK(std::abs(weighted.M2()(c) - repeated.M2()(c)) < 1e-14);
    CHECK(std::abs(weighted.variance(batchnorm::Variance::unbiased)(c) -
                   repeated.variance(batchnorm::Variance::unbiased)(c)) < 1e-15);
  }
  CHECK(contains(message<std::invalid_argument>([&] {
                   weighted.add(x, sample_weight(std::vector<int>{1, 2}));
                 }),
                 "5 samples, got 2"));
  CHECK(weighted.count() == 24);
}
