// The textbook's formulas for one channel, in numbers of any precision, in plain loops that share no code with the
// library.

#ifndef BATCHNORM_TESTS_EXACTNESS_FORMULAS_HPP
#define BATCHNORM_TESTS_EXACTNESS_FORMULAS_HPP

#include <cstddef>
#include <vector>

namespace exact {

template <class Real>
struct Given {
  std::vector<Real> x, dy;
  Real weight, bias, running_mean, running_var, epsilon, momentum;
  bool unbiased, batch_statistics;
};

template <class Real>
struct Solution {
  std::vector<Real> y, dx;
  Real running_mean, running_var, weight_grad, bias_grad, inv_std;
};

template <class Real>
Solution<Real> solve(const Given<Real>& given) {
  const std::size_t size = given.x.size();
  const Real n(static_cast<double>(size));

  Real mean(0), squares(0);
  for (const Real& x : given.x) mean += x;
  mean /= n;
  for (const Real& x : given.x) {
    const Real deviation = x - mean;
    squares += deviation * deviation;
  }
  const Real variance = squares / n;

  Solution<Real> result;
  const Real share = given.batch_statistics ? given.momentum : Real(0);
  const Real batch_var = given.unbiased && size > 1 ? Real(squares / (n - 1)) : variance;
  result.running_mean = (1 - share) * given.running_mean + share * mean;
  result.running_var = (1 - share) * given.running_var + share * batch_var;

  const Real used_mean = given.batch_statistics ? mean : given.running_mean;
  const Real used_var = (given.batch_statistics ? variance : given.running_var) + given.epsilon;
  // A constant channel without an epsilon: its x-hat is 0 by agreement.
  result.inv_std = used_var == 0 ? Real(0) : Real(1 / sqrt(used_var));

  std::vector<Real> x_hat(size);
  result.bias_grad = 0;
  result.weight_grad = 0;
  for (std::size_t i = 0; i < size; ++i) {
    x_hat[i] = (given.x[i] - used_mean) * result.inv_std;
    result.bias_grad += given.dy[i];
    result.weight_grad += given.dy[i] * x_hat[i];
  }

  // Ioffe and Szegedy, arXiv 1502.03167, section 3, with the sums over dx-hat and dx-hat x-hat written out.
  const Real mean_dy = result.bias_grad / n, mean_dy_x_hat = result.weight_grad / n;
  for (std::size_t i = 0; i < size; ++i) {
    result.y.push_back(Real(x_hat[i] * given.weight + given.bias));
    Real dx_hat = given.dy[i];
    if (given.batch_statistics) dx_hat -= mean_dy + x_hat[i] * mean_dy_x_hat;
    result.dx.push_back(Real(dx_hat * given.weight * result.inv_std));
  }
  return result;
}

}  // namespace exact

#endif  // BATCHNORM_TESTS_EXACTNESS_FORMULAS_HPP
