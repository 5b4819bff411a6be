// expects: batchnorm: <batchnorm/openmp.hpp> needs OpenMP, so compile with -fopenmp (GCC, Clang) or /openmp (MSVC)
#include <batchnorm/openmp.hpp>

int main() {}
