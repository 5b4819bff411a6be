// The unit of a program that compiles the kernels for all the others: CMake's target batchnorm::kernels adds it to what
// links to it, and any other build can do the same.

#include "batchnorm/kernels.hpp"
