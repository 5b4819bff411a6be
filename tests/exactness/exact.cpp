#include "exact.hpp"

#include <algorithm>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>

namespace exact {
namespace {

namespace mp = boost::multiprecision;
template <unsigned Digits>
using Number = mp::number<mp::cpp_bin_float<Digits>, mp::et_off>;

template <class Real>
Result solve_in(const Channel& channel) {
  const std::size_t size = channel.x.size();
  const Real n(static_cast<double>(size));
  const Real weight(channel.weight), bias(channel.bias), epsilon(channel.epsilon), momentum(channel.momentum);
  const Real running_mean(channel.running_mean), running_var(channel.running_var);

  Real mean = 0, squares = 0;
  for (const double x : channel.x) mean += Real(x);
  mean /= n;
  for (const double x : channel.x) squares += (Real(x) - mean) * (Real(x) - mean);
  const Real variance = squares / n;

  Result result;
  const Real share = channel.batch_statistics ? momentum : Real(0);
  const Real batch_var = channel.unbiased && size > 1 ? Real(squares / (n - 1)) : variance;
  result.running_mean = static_cast<long double>(Real((1 - share) * running_mean + share * mean));
  result.running_var = static_cast<long double>(Real((1 - share) * running_var + share * batch_var));

  const Real used_mean = channel.batch_statistics ? mean : running_mean;
  const Real used_var = (channel.batch_statistics ? variance : running_var) + epsilon;
  // A constant channel without an epsilon: its x-hat is 0 by agreement.
  const Real inv_std = used_var == 0 ? Real(0) : Real(1 / sqrt(used_var));
  result.inv_std = static_cast<long double>(inv_std);

  std::vector<Real> x_hat(size);
  Real sum_dy = 0, sum_dy_x_hat = 0;
  for (std::size_t i = 0; i < size; ++i) {
    x_hat[i] = (Real(channel.x[i]) - used_mean) * inv_std;
    sum_dy += Real(channel.dy[i]);
    sum_dy_x_hat += Real(channel.dy[i]) * x_hat[i];
  }
  result.weight_grad = static_cast<long double>(sum_dy_x_hat);
  result.bias_grad = static_cast<long double>(sum_dy);

  // Ioffe and Szegedy, arXiv 1502.03167, section 3, with the sums over dx-hat and dx-hat x-hat written out.
  result.y.resize(size);
  result.dx.resize(size);
  const Real mean_dy = sum_dy / n, mean_dy_x_hat = sum_dy_x_hat / n, scale = weight * inv_std;
  for (std::size_t i = 0; i < size; ++i) {
    result.y[i] = static_cast<long double>(Real(x_hat[i] * weight + bias));
    Real dx_hat = Real(channel.dy[i]);
    if (channel.batch_statistics) dx_hat -= mean_dy + x_hat[i] * mean_dy_x_hat;
    result.dx[i] = static_cast<long double>(Real(dx_hat * scale));
  }
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
