// Threads may have small stacks: those of musl have 128 KiB.

#include <batchnorm/batchnorm.hpp>

#include <pthread.h>

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <boost/multiprecision/eigen.hpp>
#include <functional>
#include <vector>

#include "../catch.hpp"
#include "../fused_kernels.hpp"

namespace {

// Runs a function on a thread with a stack of so many bytes. The page below the stack is no one's: what goes past it
// ends the program.
void on_stack(std::size_t bytes, const std::function<void()>& function) {
  pthread_attr_t attributes;
  pthread_t thread;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  const auto start = [](void* f) -> void* {
    (*static_cast<const std::function<void()>*>(f))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, start, const_cast<std::function<void()>*>(&function)) == 0);
  REQUIRE(pthread_join(thread, nullptr) == 0);
  pthread_attr_destroy(&attributes);
}

template <class T>
T value(Eigen::Index i) {
  if constexpr (sizeof(T) == 2) {
    return T(static_cast<float>(i * i % 31) - 15);
  } else {
    return static_cast<T>(static_cast<double>(i * i % 31) - 15);
  }
}

// All passes in every way: by batch and by running statistics, with and without a workspace, the primitives alone; also
// where a channel's values or coefficients ask for a rare path.
template <class T, int Rank, class X, class Y>
void every_pass(const X& x, const X& dy, Y&& y, Eigen::Index channels, bool rare) {
  using Layer = batchnorm::BatchNorm<T, Rank>;
  using Param = typename Layer::Param;
  using A = typename Layer::Accumulator;
  Layer bn(channels), untracked(batchnorm::BatchNormOptions(channels).track_running_stats(false));
  Layer plain(batchnorm::BatchNormOptions(channels).affine(false));
  if (rare) bn.weight()(0) = bn.bias()(0) = bn.running_mean()(0) = static_cast<Param>(1e38F);
  bn.forward(x, y);
  bn.backward(x, dy, y);
  bn.infer(x, y);
  untracked.infer(x, y);
  for (auto* layer : {&bn, &plain}) {
    layer->eval();
    layer->forward(x, y);
    layer->backward(x, dy, y);
  }
  Layer fused(batchnorm::BatchNormOptions(channels).activation(batchnorm::Activation::relu));
  fused.forward(x, y, batchnorm::residual(dy));
  fused.infer(x, y, batchnorm::residual(dy));
  fused.forward(x, y);
  fused.backward(x, dy, y);
  const std::vector<float> w(static_cast<std::size_t>(fused.saved_statistics().shape()[0]), 0.5F);
  fused.forward(x, y, batchnorm::sample_weight(w), batchnorm::residual(dy));
  fused.backward(x, dy, y, batchnorm::sample_weight(w), batchnorm::output(x));
  const std::vector<bool> m(w.size(), true);
  fused.forward(x, y, batchnorm::mask(m));
  fused.infer(x, y, batchnorm::mask(m));
  batchnorm::BasicMoments<A> moments(channels);
  moments.add(x);
  batchnorm::NormalizeCoefficients<A> k{moments.mean(), moments.mean_residual(), moments.mean(), moments.mean()};
  batchnorm::normalize(x, 1, k, y);
  const auto sums = batchnorm::accumulate_gradients(x, dy, 1, moments.mean(), moments.mean_residual());
  batchnorm::GradientCoefficients<A> g{sums.dy, moments.mean(), moments.mean_residual(), sums.dy, sums.dy};
  batchnorm::apply_gradients(x, dy, 1, g, y);
}

// Over a tensor [n, channels, inner].
template <class T>
void every_pass(Eigen::Index n, Eigen::Index channels, Eigen::Index inner, bool rare) {
  Eigen::Tensor<T, 3, Eigen::RowMajor> x(n, channels, inner), dy(n, channels, inner), y(n, channels, inner);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = value<T>(i);
    dy.data()[i] = value<T>(i + 7);
  }
  if (rare) x.data()[0] = T(3e4F);
  every_pass<T, 3>(x, dy, y, channels, rare);
}

// Over blocks of n samples out of matrices that have more rows and columns.
template <class T, int Order>
void every_pass_over_blocks(Eigen::Index n, Eigen::Index channels, bool rare) {
  using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;
  Matrix x(n + 3, channels + 3), dy(n + 3, channels + 3), y(n + 3, channels + 3);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    x.data()[i] = value<T>(i);
    dy.data()[i] = value<T>(i + 7);
  }
  if (rare) x(0, 0) = T(3e4F);
  using Block = Eigen::Block<Matrix>;
  every_pass<T, 2>(Block(x, 0, 0, n, channels), Block(dy, 1, 2, n, channels), Block(y, 2, 1, n, channels), channels,
                   rare);
}

}  // namespace

TEMPLATE_TEST_CASE("a call fits on a thread with a stack of 128 KiB, whatever the channels", "", float, double,
                   Eigen::half, Eigen::bfloat16, long double) {
  on_stack(128 * 1024, [] {
    for (const bool rare : {false, true}) {
      every_pass<TestType>(4, 3, 1, rare);
      every_pass<TestType>(300, 1500, 1, rare);
      every_pass<TestType>(20, 700, 3, rare);
      every_pass<TestType>(3, 1500, 20, rare);
      every_pass<TestType>(300, 5, 1, rare);
      every_pass_over_blocks<TestType, Eigen::RowMajor>(300, 5, rare);
      every_pass_over_blocks<TestType, Eigen::RowMajor>(20, 1500, rare);
      every_pass_over_blocks<TestType, Eigen::ColMajor>(9, 1500, rare);
      every_pass_over_blocks<TestType, Eigen::ColMajor>(20, 1500, rare);
    }
  });
}

TEST_CASE("numbers of 100 digits fit on a stack of 512 KiB") {
  using Number =
      boost::multiprecision::number<boost::multiprecision::cpp_bin_float<100>, boost::multiprecision::et_off>;
  on_stack(512 * 1024, [] {
    every_pass<Number>(4, 3, 1, false);
    every_pass<Number>(9, 200, 1, false);
    every_pass<Number>(3, 5, 20, false);
    every_pass_over_blocks<Number, Eigen::RowMajor>(30, 5, false);
    every_pass_over_blocks<Number, Eigen::ColMajor>(9, 50, false);
  });
}
