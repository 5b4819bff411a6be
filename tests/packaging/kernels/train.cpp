// A unit that trains a layer, with kernels that another unit compiles.

#include <batchnorm/batchnorm.hpp>

#ifndef BATCHNORM_EXTERN_KERNELS
#error "batchnorm::kernels did not define BATCHNORM_EXTERN_KERNELS"
#endif

void train(batchnorm::BatchNorm<float, 2>& bn, const Eigen::Tensor<float, 2>& x) { bn.backward(x, bn.forward(x)); }
