// expects: batchnorm: a layer needs its number of channels: BatchNorm<float, 4> bn(64)

#include <batchnorm/batchnorm.hpp>

struct Net {
  batchnorm::BatchNorm<float, 4> bn;
};

int main() { Net net; }
