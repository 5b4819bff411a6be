// Which statistics normalize a call.

#ifndef BATCHNORM_STATISTICS_HPP
#define BATCHNORM_STATISTICS_HPP

#include <cmath>

#include "batchnorm/detail/interface/error.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// Which mean and variance normalize a call, whatever the mode: what `BatchNorm::normalize_with` takes.
class Statistics {
 public:
  /// Those without a parameter.
  enum Named {
    batch,   ///< those of the call's own x, through which the gradient flows
    running  ///< the running ones, which are constants in backward
  };

  /// One of those. Implicit, so that `normalize_with(Statistics::running)` works.
  Statistics(Named named) noexcept : kind_(named) {}  // NOLINT(google-explicit-constructor)

  /// A mixture of both, prior_count : n for a batch of n samples (Schneider et al. 2020, arXiv 2006.16971, equation 4):
  ///
  ///     mean = (prior_count * running_mean + n * mean of x) / (prior_count + n), and the variance likewise
  ///
  /// It adapts a trained layer to data that have shifted, where a batch is too small to stand alone: 0 is the batch's
  /// own statistics, and the larger the number, the closer to the running ones. Throws std::invalid_argument unless the
  /// number is finite and at least 0.
  static Statistics mixed(double prior_count) {
    detail::require(std::isfinite(prior_count) && prior_count >= 0, "expected a finite prior_count of at least 0, got ",
                    prior_count);
    Statistics result(batch);
    result.mixed_ = true;
    result.prior_count_ = prior_count;
    return result;
  }

  /// Whether these are a mixture.
  bool is_mixed() const noexcept { return mixed_; }
  /// How many samples the running statistics of a mixture are worth; 0 for the others.
  double prior_count() const noexcept { return prior_count_; }

  /// Whether two are the same.
  friend bool operator==(const Statistics& a, const Statistics& b) noexcept { return !(a != b); }
  /// Whether they are not.
  friend bool operator!=(const Statistics& a, const Statistics& b) noexcept {
    return a.kind_ != b.kind_ || a.mixed_ != b.mixed_ || a.prior_count_ < b.prior_count_ ||
           a.prior_count_ > b.prior_count_;
  }

 private:
  Named kind_;
  bool mixed_ = false;
  double prior_count_ = 0;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_STATISTICS_HPP
