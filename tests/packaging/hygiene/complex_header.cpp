// Our headers after complex.h, which in GNU dialects defines I: g++'s own default, and that of CMake.

#include <complex.h>

#include <batchnorm/batchnorm.hpp>

template class batchnorm::BatchNorm<float, 2>;
