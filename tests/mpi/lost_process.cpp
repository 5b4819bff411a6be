// Training on several processes, of which one is lost: it is killed, exits, or ends by an exception that nobody
// catches.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const std::string way = argc > 1 ? argv[1] : "";
  const batchnorm::MpiCommunicator world(MPI_COMM_WORLD);
  batchnorm::SyncBatchNorm<float, 2, batchnorm::MpiCommunicator> layer(batchnorm::BatchNormOptions(4), world);
  Eigen::MatrixXf x = Eigen::MatrixXf::Random(8, 4);
  for (int step = 0; step < 1000; ++step) {
    if (step == 5 && world.rank() == 1) {
      std::puts("5 steps");
      std::fflush(stdout);
      if (way == "killed") std::raise(SIGKILL);
      if (way == "exit") std::exit(3);
      if (way == "exception") throw std::runtime_error("nobody catches this");
    }
    x = layer.forward(x);
    layer.backward(x, x);
  }
  std::puts("all steps");
  MPI_Finalize();
}
