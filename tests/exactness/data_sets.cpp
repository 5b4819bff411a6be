#include "data_sets.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace {

// 2^5 7^2: as many samples of 7x7 or 14x14 as rows of 28 or of any power of two up to 32.
constexpr int usual_size = 1568;
constexpr int channels_a_set = 3;

// SplitMix64 (Steele, Lea and Flood 2014), and sums of it: the same numbers on every machine.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  double uniform() {  // [0, 1)
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }
  double normal() {  // nearly: mean 0, deviation 1
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum;
  }

 private:
  std::uint64_t state_;
};

class Maker {
 public:
  explicit Maker(Scalar type) : type_(type) {}

  using Values = std::function<double(Random&, int channel, int k)>;
  using Change = std::function<void(exact::Channel&, int channel)>;

  void add(const std::string& name, const Values& x) {
    add(name, usual_size, x, [](exact::Channel&, int) {});
  }
  void add(const std::string& name, const Values& x, const Change& change) { add(name, usual_size, x, change); }
  void add(const std::string& name, int size, const Values& x, const Change& change) {
    DataSet set{name, {}};
    for (int c = 0; c < channels_a_set; ++c) {
      Random random(static_cast<std::uint64_t>(1000 * sets_.size()) + static_cast<std::uint64_t>(c) + 1);
      exact::Channel channel;
      for (int k = 0; k < size; ++k) {
        channel.x.push_back(x(random, c, k));
        channel.dy.push_back(random.normal());
      }
      channel.weight = c == 0 ? 1 : c == 1 ? -1.5 : 0.3;
      channel.bias = 0.7 * c;  // none in the first channel, where rounding y to the bias' digits could hide errors
      for (auto& v : channel.x) v = rounded(type_, v);
      change(channel, c);
      for (auto* values : {&channel.x, &channel.dy}) {
        for (auto& v : *values) v = rounded(type_, v);
      }
      for (auto* v : {&channel.weight, &channel.bias, &channel.running_mean, &channel.running_var}) {
        *v = rounded(param_of(type_), *v);
      }
      set.channels.push_back(std::move(channel));
    }
    sets_.push_back(std::move(set));
  }

  // But those that the type cannot hold.
  std::vector<DataSet> sets() {
    const auto finite = [](const std::vector<double>& values) {
      return std::all_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
    };
    sets_.erase(std::remove_if(sets_.begin(), sets_.end(),
                               [&](const DataSet& set) {
                                 return !std::all_of(
                                     set.channels.begin(), set.channels.end(),
                                     [&](const exact::Channel& c) { return finite(c.x) && finite(c.dy); });
                               }),
                sets_.end());
    return std::move(sets_);
  }

 private:
  Scalar type_;
  std::vector<DataSet> sets_;
};

Maker::Values normal(double mean, double deviation) {
  return [=](Random& random, int channel, int) { return (channel == 1 ? -mean : mean) + deviation * random.normal(); };
}

void without_epsilon(exact::Channel& channel, int) { channel.epsilon = 0; }

}  // namespace

std::vector<DataSet> data_sets(Scalar type) {
  Maker sets(type);
  const auto constant = [=](int channel) {
    return rounded(type, channel == 0 ? 0.1 : channel == 2 ? 3e-5 : largest(type) > 1e6 ? -1e6 : -1e4);
  };

  sets.add("mean 0, deviation 1", normal(0, 1));
  sets.add("mean 1e4, deviation 1e-2", normal(1e4, 1e-2));
  sets.add("mean 1e4, deviation 1", normal(1e4, 1));
  sets.add("mean 1e5, deviation 0.1", normal(1e5, 0.1));
  sets.add("mean 1e6, deviation 1e-2", normal(1e6, 1e-2));
  sets.add("mean 1e6, deviation 1", normal(1e6, 1));

  const auto all_equal = [=](Random&, int channel, int) { return constant(channel); };
  const auto one_ulp_off = [=](Random&, int channel, int k) {
    return constant(channel) + (k == 700 ? ulp(type, constant(channel)) : 0);
  };
  const auto half_ulp_off = [=](Random& random, int channel, int) {
    return constant(channel) + (random.uniform() < 0.5 ? ulp(type, constant(channel)) : 0);
  };
  sets.add("constant", all_equal);
  sets.add("constant, epsilon 0", all_equal, without_epsilon);
  sets.add("one value an ulp off constant", one_ulp_off);
  sets.add("one value an ulp off constant, epsilon 0", one_ulp_off, without_epsilon);
  sets.add("half the values an ulp off, epsilon 0", half_ulp_off, without_epsilon);
  sets.add(
      "two samples 3 ulps apart, epsilon 0", 2,
      [=](Random&, int channel, int k) { return constant(channel) + k * 3 * ulp(type, constant(channel)); },
      without_epsilon);

  const double smallest = type == Scalar::float64 ? std::numeric_limits<double>::min()
                                                  : static_cast<double>(std::numeric_limits<float>::min());
  const auto denormal = [=](Random& random, int, int) { return (2 * random.uniform() - 1) * smallest; };
  sets.add("denormals", denormal);
  sets.add("denormals, epsilon 0", denormal, [=](exact::Channel& channel, int c) {
    without_epsilon(channel, c);
    for (auto& v : channel.dy) v *= 1e-9;  // or dx would overflow
  });
  // Coefficients of y and dx beyond float's range, and below it.
  sets.add(
      "a 64th of denormals, epsilon 0",
      [=](Random& random, int, int) { return (2 * random.uniform() - 1) * smallest / 64; },
      [=](exact::Channel& channel, int c) {
        without_epsilon(channel, c);
        for (auto& v : channel.dy) v *= 1e-9;
      });
  sets.add("3e37, weight 1e-4", normal(0, 3e37), [](exact::Channel& channel, int) {
    channel.weight *= 1e-4;
    channel.bias *= 1e-4;
    for (auto& v : channel.dy) v *= 1e10;  // or dx would be denormal
  });
  sets.add("1e-20, epsilon 0", normal(0, 1e-20), without_epsilon);
  sets.add("1e15", normal(0, 1e15));
  sets.add("1e18", normal(0, 1e18));
  sets.add("3e19", normal(0, 3e19));
  sets.add("1e30", normal(0, 1e30));

  sets.add("an outlier of 1e8", [](Random& random, int channel, int k) {
    const double value = random.normal();
    return k == (channel == 0 ? 0 : channel == 1 ? 777 : usual_size - 1) ? 1e8 : value;
  });
  sets.add("an outlier of 1e30", [](Random& random, int channel, int k) {
    const double value = random.normal();
    return k == (channel == 0 ? 0 : channel == 1 ? 777 : usual_size - 1) ? -1e30 : value;
  });
  sets.add("alternating +-1e6",
           [](Random& random, int, int k) { return (k % 2 ? 1e6 : -1e6) + (k % 3 ? 0 : random.normal()); });
  sets.add("log-normal", [](Random& random, int, int) { return std::exp(3 * random.normal()); });
  sets.add("sorted", normal(1e3, 1e2), [](exact::Channel& channel, int c) {
    std::sort(channel.x.begin(), channel.x.end());
    if (c == 1) std::reverse(channel.x.begin(), channel.x.end());
  });
  sets.add("2e5 values, mean 1e4", 200000, normal(1e4, 1), [](exact::Channel&, int) {});

  sets.add("dy of mean 1e4", normal(0, 1), [=](exact::Channel& channel, int c) {
    const double mean = c == 1 ? -1e4 : 1e4, deviation = std::max(1.0, 4 * ulp(type, mean));
    for (auto& v : channel.dy) v = mean + deviation * v;
  });
  sets.add("dy in the span of 1 and x-hat", normal(3, 2), [](exact::Channel& channel, int c) {
    for (std::size_t k = 0; k < channel.dy.size(); ++k) channel.dy[k] = 0.7 + (c - 1.25) * (channel.x[k] - 3) / 2;
  });
  for (const double weight : {1e-30, 1e30}) {
    sets.add(weight < 1 ? "weight 1e-30" : "weight 1e30", normal(0, 1), [=](exact::Channel& channel, int) {
      channel.weight *= weight;
      channel.bias *= weight;
    });
  }
  sets.add("running variance 1e8, momentum 1e-4", normal(1, 1), [](exact::Channel& channel, int c) {
    channel.momentum = 1e-4;
    channel.running_mean = 1e4 * (c + 1);
    channel.running_var = 1e8 + c;
  });
  sets.add("inference at running mean 1e6", normal(1e6, 1), [](exact::Channel& channel, int c) {
    channel.batch_statistics = false;
    channel.running_mean = c == 1 ? -1e6 - 0.3 : 1e6 + 0.7;
    channel.running_var = 0.9;
  });
  return sets.sets();
}

std::vector<Regime> regimes(std::int64_t values_per_channel) {
  if (values_per_channel == 2) {
    return {
        {"N,C", 2, 40, 1},
        {"N,C, 3 channels", 2, 3, 1},
        {"N,C ColMajor", 1, 40, 2, true},
        {"one sample of 2", 1, 3, 2},
    };
  }
  if (values_per_channel == 200000) {
    return {
        {"N,C,L long rows", 4, 3, 50000},     {"N,C", 200000, 3, 1},
        {"N,C ColMajor", 1, 3, 200000, true}, {"N,C,H,W 5x10", 4000, 7, 50},
        {"N,H,W,C, streamed", 200000, 12, 1},
    };
  }
  return {
      {"N,C,H,W 28x56", 1, 5, 1568},
      {"N,C,H,W 28x28", 2, 20, 784},
      {"N,C,H,W 14x14", 8, 20, 196},
      {"N,C,H,W 7x7", 32, 37, 49},
      {"N,C,H,W 7x7, 4 channels", 32, 4, 49},
      {"N,C,H,W 2x1", 784, 19, 2},
      {"N,H,W,C", 1568, 40, 1},
      {"N,H,W,C, 3 channels", 1568, 3, 1},
      {"N,H,W,C, 130 channels", 1568, 130, 1},
      {"N,C ColMajor", 1, 11, 1568, true},
      {"ColMajor 28,C,56", 56, 9, 28, true},
      {"ColMajor C first", 1568, 21, 1, true},
  };
}
