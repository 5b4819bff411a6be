// expects: batchnorm: a layer needs its number of channels: BatchNorm<float, 4> bn(64)

#include <batchnorm/batchnorm.hpp>

int main() { batchnorm::BatchNorm<float, 4> bn; }
