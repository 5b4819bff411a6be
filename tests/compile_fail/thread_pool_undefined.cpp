// expects: batchnorm: Eigen::ThreadPoolDevice is declared here and not defined: define EIGEN_USE_THREADS

#include <batchnorm/batchnorm.hpp>

void train(batchnorm::BatchNorm<float, 2>& bn, const Eigen::ThreadPoolDevice& device,
           const Eigen::Tensor<float, 2>& x) {
  bn.forward(device, x);
}

int main() {}
