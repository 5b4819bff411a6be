// expects: batchnorm: a communicator is a copyable class with int rank() const, int size() const and void all_gather(const double* mine, std::size_t n, double* all) const
#include <batchnorm/batchnorm.hpp>
#include <batchnorm/sync_batch_norm.hpp>

struct WithoutGather {
  int rank() const { return 0; }
  int size() const { return 1; }
};

batchnorm::SyncBatchNorm<float, 4, WithoutGather> layer(batchnorm::BatchNormOptions(16), WithoutGather());
