// The unit of a program that compiles the kernels for all.

#include <batchnorm/kernels.hpp>
