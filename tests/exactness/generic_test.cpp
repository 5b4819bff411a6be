// Number types of the user's own, as types of the whole layer: what is in their digits and derivatives must survive.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

#include <boost/multiprecision/cpp_bin_float.hpp>

#include "../catch.hpp"
#include "formulas.hpp"

namespace {

namespace mp = boost::multiprecision;
using Reference = mp::number<mp::cpp_bin_float<100>, mp::et_off>;
using Index = Eigen::Index;

// Values with all digits of a type: roots.
template <class T>
T digits(Index i) {
  using std::sqrt;
  const T root = sqrt(T(static_cast<double>(i * 37 % 101 + 2)));
  return i % 3 == 0 ? T(-root) : root;
}

template <class T>
void check_layer(const Reference& tolerance) {
  constexpr Index samples = 7, channels = 3, length = 5;
  using Tensor = Eigen::Tensor<T, 3, Eigen::RowMajor>;
  Tensor x(samples, channels, length), dy(samples, channels, length), y(samples, channels, length), dx = y;
  for (Index i = 0; i < x.size(); ++i) {
    x.data()[i] = T(1000) + digits<T>(i);  // a mean that costs three digits
    dy.data()[i] = digits<T>(i * i + 1);
  }
  batchnorm::BatchNorm<T, 3> bn(batchnorm::BatchNormOptions(channels).epsilon(0.125).momentum(0.25));
  exact::Given<Reference> given[channels];
  for (Index c = 0; c < channels; ++c) {
    bn.weight()(c) = digits<T>(c + 1);
    bn.bias()(c) = digits<T>(c + 5);
    bn.running_mean()(c) = digits<T>(c + 11);
    bn.running_var()(c) = T(1) + digits<T>(c * 3 + 1) * digits<T>(c * 3 + 1);
  }
  const auto off = [&](const T& found, const Reference& exact) { return abs(Reference(found) - exact); };
  Reference worst = 0;
  const auto take = [&](const T& found, const Reference& exact, const Reference& scale) {
    const Reference error = off(found, exact) / scale;
    if (error > worst) worst = error;
  };

  Eigen::ThreadPool pool(2);
  const Eigen::ThreadPoolDevice device(&pool, 2);
  for (const bool training : {true, false}) {
    bn.train(training).zero_grad();
    for (Index c = 0; c < channels; ++c) {
      given[c] = {{},
                  {},
                  Reference(bn.weight()(c)),
                  Reference(bn.bias()(c)),
                  Reference(bn.running_mean()(c)),
                  Reference(bn.running_var()(c)),
                  Reference(0.125),
                  Reference(0.25),
                  true,
                  training};
      for (Index n = 0; n < samples; ++n) {
        for (Index i = 0; i < length; ++i) {
          given[c].x.push_back(Reference(x(n, c, i)));
          given[c].dy.push_back(Reference(dy(n, c, i)));
        }
      }
    }
    if (training) {
      bn.forward(device, x, y);
      dx = bn.backward(x, dy);
    } else {
      y = bn.infer(x);
      bn.forward(x);
      bn.backward(device, x, dy, dx);
    }
    for (Index c = 0; c < channels; ++c) {
      const auto exact = exact::solve(given[c]);
      for (Index n = 0; n < samples; ++n) {
        for (Index i = 0; i < length; ++i) {
          const auto k = static_cast<std::size_t>(n * length + i);
          take(y(n, c, i), exact.y[k], training ? 1 : 1000);
          take(dx(n, c, i), exact.dx[k], 1);
        }
      }
      take(bn.running_mean()(c), exact.running_mean, 1000);
      take(bn.running_var()(c), exact.running_var, abs(exact.running_var));
      take(bn.weight_grad()(c), exact.weight_grad, training ? 100 : 100000);
      take(bn.bias_grad()(c), exact.bias_grad, 100);
    }
  }
  INFO("off by " << worst.str(5));
  CHECK(worst < tolerance);
  CHECK(worst > 0);  // or nothing was compared

  // The primitives and Moments as well.
  batchnorm::BasicMoments<T> moments(channels);
  moments.add(x).merge(batchnorm::accumulate_moments(x, 1));
  CHECK(moments.count() == 2 * samples * length);
}

}  // namespace

TEST_CASE("a multiprecision number keeps its 50 digits through the whole layer") {
  check_layer<mp::number<mp::cpp_bin_float<50>, mp::et_off>>(Reference("1e-46"));
}

TEST_CASE("a multiprecision number with expression templates keeps its 50 digits through the whole layer") {
  check_layer<mp::cpp_bin_float_50>(Reference("1e-46"));
  check_layer<mp::number<mp::cpp_bin_float<50>, mp::et_on>>(Reference("1e-46"));
}

TEST_CASE("long double keeps its 18 digits through the whole layer") { check_layer<long double>(Reference("2e-16")); }
