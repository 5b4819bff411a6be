// Compiled with -fno-exceptions -fno-rtti: the library works, and what would throw says why and aborts.

#include <batchnorm/batchnorm.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>

namespace {

void aborted(int) {
  std::fputs("aborted\n", stderr);
  std::_Exit(0);
}

}  // namespace

int main() {
  batchnorm::BatchNorm<float, 2> bn(3);
  Eigen::Tensor<float, 2> x(4, 3);
  x.setConstant(1.0f);
  x = bn.forward(x);

  std::signal(SIGABRT, aborted);
  Eigen::Tensor<float, 2> wrong(4, 4);
  wrong.setZero();
  wrong = bn.forward(wrong);
  std::fputs("went on\n", stderr);
  return 1;
}
