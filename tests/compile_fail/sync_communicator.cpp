// expects: batchnorm: a communicator is a copyable class with int rank() const

#include <batchnorm/sync_batch_norm.hpp>

struct Nothing {};

int main() { batchnorm::SyncBatchNorm<float, 4, Nothing> bn(3, Nothing()); }
