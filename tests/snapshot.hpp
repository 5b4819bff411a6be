// Everything that a layer holds and shows, to compare one with what it was before.

#ifndef BATCHNORM_TESTS_SNAPSHOT_HPP
#define BATCHNORM_TESTS_SNAPSHOT_HPP

#include <batchnorm/batchnorm.hpp>

#include <vector>

template <class V>
void append(std::vector<double>& all, const V& vector) {
  all.push_back(static_cast<double>(vector.size()));
  for (Eigen::Index i = 0; i < vector.size(); ++i) all.push_back(static_cast<double>(vector.data()[i]));
}

template <class Bn>
std::vector<double> snapshot(const Bn& bn) {
  std::vector<double> all;
  append(all, bn.weight());
  append(all, bn.bias());
  append(all, bn.running_mean());
  append(all, bn.running_var());
  append(all, bn.weight_grad());
  append(all, bn.bias_grad());
  const auto& saved = bn.saved_statistics();
  append(all, saved.mean());
  append(all, saved.mean_residual());
  append(all, saved.inv_std());
  all.push_back(saved.constant());
  all.push_back(saved.has_forward());
  for (const auto extent : saved.shape()) all.push_back(static_cast<double>(extent));
  all.push_back(static_cast<double>(bn.num_batches_tracked()));
  all.push_back(bn.is_training());
  return all;
}

#endif  // BATCHNORM_TESTS_SNAPSHOT_HPP
