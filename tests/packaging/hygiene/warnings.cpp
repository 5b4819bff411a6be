// All that a program can instantiate of the library, for warnings that few projects ask for.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/kernels.hpp>

namespace {

template <class T, int Layout>
void use(const batchnorm::BatchNormOptions& options) {
  Eigen::Tensor<T, 3, Layout> x(4, 2, 3), dy(4, 2, 3), y(4, 2, 3);
  batchnorm::BatchNorm<T, 3> bn(options);
  y = bn.forward(x);
  bn.forward(Eigen::DefaultDevice(), x, y);
  bn.infer(x + x, y);
  bn.backward(x, dy);
  bn.backward(x, dy, y, bn.saved_statistics());
  bn.eval().zero_grad().reset_parameters();

  auto moments = batchnorm::accumulate_moments(x, 1);
  moments.add(x).merge(moments);
  const auto variance = moments.variance(batchnorm::Variance::unbiased);
  batchnorm::normalize(x, 1, {moments.mean(), moments.mean_residual(), variance, variance}, y);
  const auto sums = batchnorm::accumulate_gradients(x, dy, 1, moments.mean(), moments.mean_residual());
  batchnorm::apply_gradients(x, dy, 1, {sums.dy, moments.mean(), moments.mean_residual(), sums.dy_centered, variance},
                             y);
}

}  // namespace

int main() {
  const batchnorm::BatchNormOptions options(2);
  use<float, Eigen::RowMajor>(options);
  use<float, Eigen::ColMajor>(options);
  use<double, Eigen::RowMajor>(options);
  use<Eigen::half, Eigen::RowMajor>(options);
  use<Eigen::bfloat16, Eigen::RowMajor>(options);
  use<long double, Eigen::RowMajor>(options);
}
