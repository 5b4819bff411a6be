// Why a layer gives other results in inference than in training, and which of its channels do nothing.

#ifndef BATCHNORM_DIAGNOSE_HPP
#define BATCHNORM_DIAGNOSE_HPP

#include <cmath>
#include <cstdint>
#include <limits>
#include <ostream>
#include <sstream>
#include <string>
#include <vector>

#include "batchnorm/batch_norm.hpp"
#include "batchnorm/moments.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// From where on `diagnose` tells of something. Setters check their argument, throw std::invalid_argument, and return
/// the limits, so that calls chain.
class DiagnosisLimits {
 public:
  /// How far the data's mean may lie from the running mean, in running standard deviations. Default 0.5. By chance the
  /// mean of n values is off by 1 / sqrt(n); three times that is allowed on top.
  DiagnosisLimits& mean_shift(double value) {
    detail::require(value >= 0, "expected a limit for mean_shift of at least 0, got ", value);
    mean_shift_ = value;
    return *this;
  }
  /// How far the data's mean may lie from the running mean.
  double mean_shift() const { return mean_shift_; }

  /// By what factor the standard deviations of the data and of the running statistics may differ, at least 1.
  /// Default 2. By chance that of n values is off by a share of 1 / sqrt(2 n); three times that is allowed on top.
  DiagnosisLimits& std_ratio(double value) {
    detail::require(value >= 1, "expected a limit for std_ratio of at least 1, got ", value);
    std_ratio_ = value;
    return *this;
  }
  /// By what factor the standard deviations may differ.
  double std_ratio() const { return std_ratio_; }

  /// Up to which size a weight counts as 0. Default 1e-3.
  DiagnosisLimits& dead_weight(double value) {
    detail::require(value >= 0, "expected a limit for dead_weight of at least 0, got ", value);
    dead_weight_ = value;
    return *this;
  }
  /// Up to which size a weight counts as 0.
  double dead_weight() const { return dead_weight_; }

 private:
  double mean_shift_ = 0.5, std_ratio_ = 2, dead_weight_ = 1e-3;
};

/// What `diagnose` has found in a layer. `operator<<` says it in sentences, with what can be done.
struct Diagnosis {
  /// A channel whose running statistics are not those of the data.
  struct Drift {
    Eigen::Index channel;                         ///< from 0
    double running_mean, running_std, mean, std;  ///< of the running statistics and of the data
    double mean_shift;  ///< the mean of what inference makes of the data before weight and bias, where training has 0
    double std_ratio;   ///< its standard deviation, where training has 1
  };
  /// A number that is no finite one, or a variance below 0.
  struct Invalid {
    Eigen::Index channel;  ///< from 0
    const char* name;      ///< of what, such as "running_var", or "mean of the data"
    double value;          ///< the number
  };

  Eigen::Index channels = 0;             ///< how many the layer has
  std::int64_t num_batches_tracked = 0;  ///< as the layer says
  detail::Index values = 0;              ///< how many values per channel the data have; 0 where nothing was compared
  bool tracks_running_stats = true;      ///< false for a layer that has no running statistics
  bool initial = false;                  ///< whether the running statistics are still the initial ones, 0 and 1
  double initial_share = 0;              ///< what training alone leaves of those: (1 - momentum)^num_batches_tracked
  double dead_weight = 0;                ///< the limit that it was made with
  std::vector<Drift> drifted{};          ///< channels whose running statistics are far from the data's
  std::vector<Eigen::Index> dead{};      ///< channels whose weight is near 0
  std::vector<Eigen::Index> unmoved{};   ///< channels whose running variance is exactly 1 although batches have entered
  std::vector<Invalid> invalid{};        ///< numbers that spoil what they take part in

  /// Whether there is nothing to tell.
  bool healthy() const { return !initial && drifted.empty() && dead.empty() && unmoved.empty() && invalid.empty(); }
};

namespace detail {

/// What running statistics are compared with: the mean and the variance of each channel, of the kind of the running
/// one.
struct DataStatistics {
  std::vector<double> mean{}, var{};
  Index values = 0;
};

inline void find_invalid(const char* name, const std::vector<double>& numbers, bool is_variance,
                         std::vector<Diagnosis::Invalid>& invalid) {
  for (std::size_t c = 0; c < numbers.size(); ++c) {
    if (!std::isfinite(numbers[c]) || (is_variance && numbers[c] < 0)) {
      invalid.push_back({static_cast<Eigen::Index>(c), name, numbers[c]});
    }
  }
}

/// Of a layer's state as doubles. `weight` is empty where there is none, as are running statistics.
BATCHNORM_COLD inline Diagnosis make_diagnosis(const BatchNormOptions& options, std::int64_t batches,
                                               const std::vector<double>& weight, const std::vector<double>& bias,
                                               const std::vector<double>& running_mean,
                                               const std::vector<double>& running_var, const DataStatistics& data,
                                               const DiagnosisLimits& limits) {
  Diagnosis result;
  result.channels = options.num_features();
  result.num_batches_tracked = batches;
  result.tracks_running_stats = options.track_running_stats();
  result.dead_weight = limits.dead_weight();
  find_invalid("weight", weight, false, result.invalid);
  find_invalid("bias", bias, false, result.invalid);
  find_invalid("running_mean", running_mean, false, result.invalid);
  find_invalid("running_var", running_var, true, result.invalid);
  find_invalid("mean of the data", data.mean, false, result.invalid);
  find_invalid("variance of the data", data.var, true, result.invalid);
  for (std::size_t c = 0; c < weight.size(); ++c) {
    if (std::abs(weight[c]) <= limits.dead_weight()) result.dead.push_back(static_cast<Eigen::Index>(c));
  }
  if (!result.tracks_running_stats) return result;

  const auto is = [](double a, double b) { return !(a < b) && !(a > b); };
  result.initial = batches == 0;
  for (std::size_t c = 0; c < running_var.size(); ++c) {
    result.initial = result.initial && is(running_mean[c], 0) && is(running_var[c], 1);
    if (batches > 0 && is(running_var[c], 1)) result.unmoved.push_back(static_cast<Eigen::Index>(c));
  }
  const double n = static_cast<double>(batches);
  result.initial_share = options.momentum() ? std::pow(1 - *options.momentum(), n) : (batches == 0 ? 1 : 0);
  if (result.initial || data.mean.empty()) return result;

  result.values = data.values;
  const double values = static_cast<double>(data.values);
  const double most_shift = limits.mean_shift() + 3 / std::sqrt(values);
  const double most_ratio = limits.std_ratio() * (1 + 3 / std::sqrt(2 * values));
  for (std::size_t c = 0; c < running_var.size(); ++c) {
    const double running_std = std::sqrt(running_var[c] + options.epsilon());
    const double std_of_data = std::sqrt(data.var[c] + options.epsilon());
    const double difference = data.mean[c] - running_mean[c];
    const double shift = is(difference, 0) ? 0 : difference / running_std;
    const double ratio = is(std_of_data, running_std) ? 1 : std_of_data / running_std;
    // Of what is no finite number to begin with, the comparisons are false.
    if (std::abs(shift) > most_shift || ratio > most_ratio || ratio * most_ratio < 1) {
      result.drifted.push_back({static_cast<Eigen::Index>(c), running_mean[c], std::sqrt(running_var[c]), data.mean[c],
                                std::sqrt(data.var[c]), shift, ratio});
    }
  }
  return result;
}

/// "channel 3" or "channels 1, 2 and 40 more".
inline std::string channels_text(const std::vector<Eigen::Index>& channels) {
  constexpr std::size_t most = 8;
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out << (channels.size() == 1 ? "channel " : "channels ");
  for (std::size_t i = 0; i < channels.size() && i < most; ++i) out << (i == 0 ? "" : ", ") << channels[i];
  if (channels.size() > most) out << " and " << channels.size() - most << " more";
  return out.str();
}

BATCHNORM_COLD inline std::string diagnosis_text(const Diagnosis& found) {
  constexpr std::size_t most = 8;
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(3);
  const auto batches = [&]() -> std::ostringstream& {
    out << found.num_batches_tracked << (found.num_batches_tracked == 1 ? " batch" : " batches");
    return out;
  };
  for (std::size_t i = 0; i < found.invalid.size() && i < most; ++i) {
    const auto& each = found.invalid[i];
    out << "The " << each.name << " of channel " << each.channel << " is " << each.value << ".\n";
  }
  if (found.invalid.size() > most) out << "There are " << found.invalid.size() - most << " more numbers like these.\n";
  if (!found.invalid.empty()) {
    out << "What is not finite, or a variance below 0, makes all outputs of its channel NaN or infinite. Look for the "
           "batch or the step that brought it, put back the state from before it, or take the statistics anew with "
           "reestimate.\n";
  }
  if (found.initial) {
    out << "The running statistics are still the initial ones, mean 0 and variance 1, and no batch has entered them: "
           "inference does not normalize. Call forward in training mode, reestimate, or set_running_stats with those "
           "of a trained layer.\n";
  }
  if (!found.unmoved.empty()) {
    out << "The running variance of " << channels_text(found.unmoved) << " is exactly the initial 1 after ";
    batches() << ": it never moved. Look whether the momentum is 0, and whether a checkpoint was loaded without it; "
                 "then call reestimate.\n";
  }
  for (std::size_t i = 0; i < found.drifted.size() && i < most; ++i) {
    const auto& each = found.drifted[i];
    out << "Channel " << each.channel << " has drifted: its running mean is " << each.running_mean
        << " and its running standard deviation " << each.running_std << ", those of the data are " << each.mean
        << " and " << each.std << ". Before weight and bias, inference gives these data a mean of " << each.mean_shift
        << " and a standard deviation of " << each.std_ratio << ", where training gives 0 and 1.\n";
  }
  if (found.drifted.size() > most) out << found.drifted.size() - most << " more channels have drifted.\n";
  if (!found.drifted.empty()) {
    if (found.initial_share >= 0.1) {
      out << "If the running statistics come from training alone, the initial mean 0 and variance 1 still make up "
          << 100 * found.initial_share << " % of them, after ";
      batches() << ": train on, or choose a larger momentum.\n";
    }
    out << "If these are data as in training, the running averages lag behind the network: call reestimate with some "
           "batches. If they are other data, look at their scale and the order of their channels.\n";
  }
  if (!found.dead.empty()) {
    out << "The weight of " << channels_text(found.dead) << " is within " << found.dead_weight
        << " of 0: the output is the bias, whatever comes in. Such channels can be removed, unless their weight was "
           "set "
           "to 0 on purpose, to begin a residual branch, and has yet to learn.\n";
  }
  if (found.healthy()) out << "Nothing is wrong with the " << found.channels << " channels.\n";
  if (!found.tracks_running_stats) {
    out << "The layer has no running statistics: inference takes those of its batch.\n";
  } else if (found.values == 0 && !found.initial) {
    out << "The running statistics were not compared with data: call forward in training mode before, with more than "
           "one value per channel, or hand in Moments.\n";
  }
  return out.str();
}

template <class Vector>
std::vector<double> doubles(const Vector& vector) {
  return copied_values<double>("a vector", vector);
}

template <class T, int Dims>
Diagnosis diagnose_with(const BatchNorm<T, Dims>& layer, const DataStatistics& data, const DiagnosisLimits& limits) {
  return make_diagnosis(layer.options(), layer.num_batches_tracked(), doubles(layer.weight()), doubles(layer.bias()),
                        doubles(layer.running_mean()), doubles(layer.running_var()), data, limits);
}

template <class L>
void check_diagnosed(const L& layer) {
  layer.check_whole();
  layer.check_has_channels();
  layer.check_parameters();
}

/// Those of the last forward, if it normalized by its batch.
template <class T, int Dims>
DataStatistics last_batch(const BatchNorm<T, Dims>& layer) {
  DataStatistics result;
  const auto& saved = layer.saved_statistics();
  const Eigen::Index channels = layer.options().num_features();
  if (!saved.has_forward() || saved.constant() || saved.mean().size() != channels) return result;
  Index values = 1;
  for (const Index extent : saved.shape()) values *= extent;
  values /= static_cast<Index>(channels);
  if (values < 2) return result;
  const double n = static_cast<double>(values);
  const double correction = layer.options().running_variance() == Variance::unbiased ? n / (n - 1) : 1;
  result.values = values;
  result.mean = doubles(saved.mean());
  for (const double inv_std : doubles(saved.inv_std())) {
    const double sum = inv_std > 0 ? 1 / (inv_std * inv_std) : inv_std * 0;  // a NaN stays one
    const double variance = sum - layer.options().epsilon();
    result.var.push_back((variance < 0 ? 0 : variance) * correction);
  }
  return result;
}

}  // namespace detail

/// Looks for what makes inference differ from training, and for channels that do nothing: compares the running
/// statistics with those of the batch of the last `forward`, if that was in training with more than one value per
/// channel, and looks through weight, bias and running statistics. Throws std::logic_error for a layer that has no
/// channels yet, and std::invalid_argument for vectors of the wrong size.
///
///     bn.forward(x);
///     std::cout << batchnorm::diagnose(bn);
template <class T, int Dims>
Diagnosis diagnose(const BatchNorm<T, Dims>& layer, const DiagnosisLimits& limits = DiagnosisLimits()) {
  detail::check_diagnosed(detail::LayerAccess::layer(layer));
  return detail::diagnose_with(layer, detail::last_batch(layer), limits);
}

/// The same, compared with moments of as many channels, which may be of many batches: those of validation data, say.
template <class T, int Dims, class A>
Diagnosis diagnose(const BatchNorm<T, Dims>& layer, const BasicMoments<A>& moments,
                   const DiagnosisLimits& limits = DiagnosisLimits()) {
  detail::check_diagnosed(detail::LayerAccess::layer(layer));
  detail::require(moments.channels() == layer.options().num_features(), "expected moments of ",
                  layer.options().num_features(), " channels, got ", moments.channels());
  detail::DataStatistics data;
  if (moments.count() > 1) {
    data.values = moments.count();
    data.mean = detail::doubles(moments.mean());
    data.var = detail::doubles(moments.variance(layer.options().running_variance()));
  }
  return detail::diagnose_with(layer, data, limits);
}

/// Writes what was found in sentences, a line each, the gravest first.
inline std::ostream& operator<<(std::ostream& out, const Diagnosis& diagnosis) {
  return out << detail::diagnosis_text(diagnosis);
}

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_DIAGNOSE_HPP
