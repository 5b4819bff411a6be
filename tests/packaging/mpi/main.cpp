// A layer over the processes of MPI, of which there is one.

#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int size = 0;
  {
    const batchnorm::MpiCommunicator world(MPI_COMM_WORLD);
    batchnorm::SyncBatchNorm<float, 2, batchnorm::MpiCommunicator> bn(batchnorm::BatchNormOptions(3), world);
    const Eigen::MatrixXf x = Eigen::MatrixXf::Random(8, 3);
    bn.forward(x);
    size = bn.communicator().size();
  }
  MPI_Finalize();
  return size == 1 ? 0 : 1;
}
