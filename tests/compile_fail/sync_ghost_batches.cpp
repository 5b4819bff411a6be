// expects: batchnorm: SyncBatchNorm takes neither ghost batches nor renormalization

#include <batchnorm/sync_batch_norm.hpp>

int main() {
  batchnorm::SyncBatchNorm<float, 4, batchnorm::SingleProcess> bn(batchnorm::BatchNormOptions(3).virtual_batch_size(2),
                                                                  {});
}
