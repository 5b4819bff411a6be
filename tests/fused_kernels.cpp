#define BATCHNORM_TESTS_COMPILE_FUSED_KERNELS
#include "fused_kernels.hpp"
