// expects: batchnorm: SyncBatchNorm exchanges doubles

#include <batchnorm/sync_batch_norm.hpp>

int main() { batchnorm::SyncBatchNorm<long double, 4, batchnorm::SingleProcess> bn(3, {}); }
