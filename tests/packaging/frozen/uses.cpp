// Every call of FrozenBatchNorm's, in C++14 and under the warnings that its users turn on.

#include <batchnorm/frozen_batch_norm.hpp>

#include <array>
#include <vector>

template class batchnorm::FrozenBatchNorm<float>;
template class batchnorm::FrozenBatchNorm<double, 8>;

template <class T, int Channels>
void use(const batchnorm::FrozenBatchNorm<T, Channels>& bn) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  const auto relu = [](const auto& a) { return a.max(T(0)); };
  Matrix x = Matrix::Zero(bn.channels(), bn.channels()), y = x;
  T sample[8] = {}, result[8];
  bn.apply(sample, result);
  bn.apply(sample, result, relu);
  bn.apply(x.data(), y.data(), bn.channels(), 1);
  bn.apply(x.data(), y.data(), 1, bn.channels(), relu);
  bn.apply(x, y);
  bn.apply(x.array(), y.array(), relu);
  bn.apply(x.col(0), y.col(0));
  bn.apply(x.row(0), y.row(0), relu);
  bn.apply(x.transpose(), y.transpose());
  Eigen::Map<const Matrix> map(x.data(), x.rows(), x.cols());
  Eigen::Ref<Matrix> reference(y);
  bn.apply(map, reference, relu);
  static_cast<void>(bn.folded_scale() + bn.folded_shift());
}

int main() {
  const std::vector<float> one(8, 1.0f), absent;
  const std::array<int, 8> zero{};
  const Eigen::VectorXd two = Eigen::VectorXd::Constant(8, 2);
  use(batchnorm::FrozenBatchNorm<float>(one, zero, two, two * 2, 1e-5));
  use(batchnorm::FrozenBatchNorm<float, 8>(one, zero, two, absent, 1e-5, 0));
  use(batchnorm::FrozenBatchNorm<double>(8));
  use(batchnorm::FrozenBatchNorm<long double, 8>());
  batchnorm::FrozenBatchNorm<float> later;
  later.set_weight(one).set_bias(zero).set_running_mean(two).set_running_var(two).set_epsilon(1).set_channel_axis(0);
  // Fewer numbers than a packet has, of which the compiler knows.
  std::vector<float> sample{1, 2, 3};
  batchnorm::FrozenBatchNorm<float>(3).apply(sample.data(), sample.data());
}
