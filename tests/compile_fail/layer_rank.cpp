// expects: batchnorm:

#include <batchnorm/batchnorm.hpp>

int main() { batchnorm::BatchNorm<float, 1> bn(3); }
