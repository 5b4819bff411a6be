// Programs may trap on floating-point exceptions: of finite data with finite results no call raises any but inexact and
// underflow, save where docs/exactness.md says so.

#include <batchnorm/batchnorm.hpp>

#include <cfenv>

#include "catch.hpp"

namespace {

template <class T>
void check_flags(Eigen::Index n, Eigen::Index channels, Eigen::Index inner) {
  using Tensor = Eigen::Tensor<T, 3, Eigen::RowMajor>;
  Tensor x(n, channels, inner), dy(n, channels, inner), y(n, channels, inner);
  for (Eigen::Index i = 0; i < x.size(); ++i) {
    const bool constant = i / inner % channels % 3 == 0;
    x.data()[i] = T(constant ? 3.0F : static_cast<float>(i * i % 101) / 8 - 5);
    dy.data()[i] = T(static_cast<float>(i * i % 37) / 16 - 1);
  }
  for (const double epsilon : {1e-5, 0.0}) {
    batchnorm::BatchNorm<T, 3> bn(batchnorm::BatchNormOptions(channels).epsilon(epsilon));
    bn.running_var()(0) = 0;
    std::feclearexcept(FE_ALL_EXCEPT);
    bn.infer(x, y);
    bn.forward(x, y);
    bn.backward(x, dy, y);
    bn.eval();
    bn.forward(x, y);
    bn.backward(x, dy, y);
    const int raised = std::fetestexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW);
    CAPTURE(n, channels, inner, epsilon);
    CHECK((raised & FE_DIVBYZERO) == 0);
    CHECK((raised & FE_INVALID) == 0);
    CHECK((raised & FE_OVERFLOW) == 0);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("usual data and constant channels raise no flag, also with an epsilon of 0", "", float, double,
                   Eigen::half, Eigen::bfloat16, long double) {
  check_flags<TestType>(40, 7, 1);
  check_flags<TestType>(40, 100, 1);
  check_flags<TestType>(5, 9, 3);
  check_flags<TestType>(3, 8, 49);
  check_flags<TestType>(3, 4, 1000);
}
