#include "exact.hpp"

#include <algorithm>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <iterator>

#include "formulas.hpp"

namespace exact {
namespace {

namespace mp = boost::multiprecision;
template <unsigned Digits>
using Number = mp::number<mp::cpp_bin_float<Digits>, mp::et_off>;

template <class Real>
Result solve_in(const Channel& channel) {
  const auto reals = [](const std::vector<double>& values) { return std::vector<Real>(values.begin(), values.end()); };
  const Solution<Real> solution =
      solve(Given<Real>{reals(channel.x), reals(channel.dy), Real(channel.weight), Real(channel.bias),
                        Real(channel.running_mean), Real(channel.running_var), Real(channel.epsilon),
                        Real(channel.momentum), channel.unbiased, channel.batch_statistics});
  const auto rounded = [](const Real& value) { return static_cast<long double>(value); };
  Result result;
  std::transform(solution.y.begin(), solution.y.end(), std::back_inserter(result.y), rounded);
  std::transform(solution.dx.begin(), solution.dx.end(), std::back_inserter(result.dx), rounded);
  result.running_mean = rounded(solution.running_mean);
  result.running_var = rounded(solution.running_var);
  result.weight_grad = rounded(solution.weight_grad);
  result.bias_grad = rounded(solution.bias_grad);
  result.inv_std = rounded(solution.inv_std);
  return result;
}

template <class Values>
long double largest(const Values& values) {
  long double result = 0;
  for (const auto value : values) result = std::max(result, std::abs(static_cast<long double>(value)));
  return result;
}

}  // namespace

Result solve(const Channel& channel, int digits) {
  return digits <= 50 ? solve_in<Number<50>>(channel) : solve_in<Number<100>>(channel);
}

Scales scales(const Channel& channel, const Result& result) {
  const long double share = channel.batch_statistics ? static_cast<long double>(channel.momentum) : 0;
  return {largest(result.y), std::abs(static_cast<long double>(channel.weight)) * result.inv_std * largest(channel.dy),
          std::max(std::abs(result.running_mean), share * largest(channel.x)), std::abs(result.running_var)};
}

}  // namespace exact
