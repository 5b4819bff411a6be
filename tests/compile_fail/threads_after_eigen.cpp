// expects: batchnorm: define EIGEN_USE_THREADS before the first include of Eigen's tensors, or by -DEIGEN_USE_THREADS

#include <unsupported/Eigen/CXX11/Tensor>
#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>

int main() {}
