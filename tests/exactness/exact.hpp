// Batch normalization of one channel in numbers of 100 decimal digits, as what the tests of exactness compare the
// library with. Plain loops over the textbook's formulas, which share no code with the library: the inputs are taken
// exactly, and what is left of rounding lies far below anything that a float or a double could show.

#ifndef BATCHNORM_TESTS_EXACT_HPP
#define BATCHNORM_TESTS_EXACT_HPP

#include <cstddef>
#include <vector>

namespace exact {

/// One channel. Every 16-bit, float and double number is a double exactly.
struct Channel {
  std::vector<double> x, dy;
  double weight = 1, bias = 0;
  double running_mean = 0, running_var = 1;
  double epsilon = 1e-5;
  double momentum = 0.1;         ///< the batch's share of the running statistics
  bool unbiased = true;          ///< which variance of the batch enters the running one
  bool batch_statistics = true;  ///< training; else inference, whose statistics are constants
};

/// The exact results, rounded once, to long double.
struct Result {
  std::vector<long double> y, dx;
  long double running_mean, running_var, weight_grad, bias_grad;
  long double inv_std;
};

/// What each may be off by is relative to these.
struct Scales {
  long double y;             ///< the largest |y| of the channel
  long double dx;            ///< |weight| inv_std max|dy|: dx before its final cancellation
  long double running_mean;  ///< |running_mean|, but at least the share of max|x| that enters it
  long double running_var;   ///< |running_var|
};

/// `digits` is 100, or 50 for half the time, which is enough where values differ by less than 1e20.
Result solve(const Channel& channel, int digits = 100);

Scales scales(const Channel& channel, const Result& result);

}  // namespace exact

#endif  // BATCHNORM_TESTS_EXACT_HPP
