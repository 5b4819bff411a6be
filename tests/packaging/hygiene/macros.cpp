// The macros of windows.h and their like, in force while our headers are read.

#define EIGEN_USE_THREADS
#include <unsupported/Eigen/CXX11/Tensor>

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define ERROR 0
#define IN
#define OUT
#define interface struct

#include <batchnorm/batchnorm.hpp>

template class batchnorm::BatchNorm<float, 2>;
