// Our headers after macros of complex.h, windows.h, X11 and their like.

#include "macros.hpp"

#define EIGEN_USE_THREADS
#include <unsupported/Eigen/CXX11/Tensor>

// Those of windows.h that the standard library does not survive everywhere.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))

#include <batchnorm/batchnorm.hpp>

template class batchnorm::BatchNorm<float, 2>;
template class batchnorm::BasicMoments<double>;

// What a call instantiates.
template <class T>
void use(Eigen::Tensor<T, 3>& x, Eigen::ThreadPoolDevice& device) {
  batchnorm::BatchNorm<T, 3> bn(2);
  bn.forward(device, x, x);
  bn.infer(x + x, x);
  bn.backward(device, x, x);
  auto moments = batchnorm::accumulate_moments(x, 1);
  moments.add(device, x);
  batchnorm::normalize(x, 1, {moments.mean(), moments.mean_residual(), moments.mean(), moments.mean()}, x);
  batchnorm::accumulate_gradients(x, x, 1, moments.mean(), moments.mean_residual());
  batchnorm::apply_gradients(
      x, x, 1, {moments.mean(), moments.mean(), moments.mean_residual(), moments.mean(), moments.mean()}, x);
}
template void use(Eigen::Tensor<float, 3>& x, Eigen::ThreadPoolDevice& device);
template void use(Eigen::Tensor<Eigen::bfloat16, 3>& x, Eigen::ThreadPoolDevice& device);
template void use(Eigen::Tensor<long double, 3>& x, Eigen::ThreadPoolDevice& device);
