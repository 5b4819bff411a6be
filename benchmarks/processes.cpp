// What an exchange between processes takes: of MpiCommunicator alone, and within a step of a layer. Run by mpirun; the
// first process prints medians.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace {

// The median of many runs of f, in microseconds, of the process that takes longest.
template <class F>
double median_of(const F& f, int runs) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    f();
    double time = 1e6 * (MPI_Wtime() - begin), longest = 0;
    MPI_Allreduce(&time, &longest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    times.push_back(longest);
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());
  return times[static_cast<std::size_t>(runs / 2)];
}

void measure(const batchnorm::MpiCommunicator& processes, Eigen::Index channels, int runs) {
  const auto ranks = static_cast<std::size_t>(processes.size());
  const std::size_t numbers = 4 + 3 * static_cast<std::size_t>(channels);
  std::vector<double> mine(numbers, 1.0), all(ranks * numbers);
  const double gather = median_of([&] { processes.all_gather(mine.data(), numbers, all.data()); }, runs);

  // The two exchanges of channels that are merged by their owners.
  const std::size_t owned = (static_cast<std::size_t>(channels) + ranks - 1) / ranks;
  std::vector<double> send(ranks * (4 + 3 * owned), 1.0), receive(send.size());
  const double by_owners = median_of(
      [&] {
        processes.all_to_all(send.data(), 4 + 3 * owned, receive.data());
        processes.all_gather(send.data(), 3 * owned, receive.data());
      },
      runs);

  // A step with few samples, of which exchanges are a large part.
  const Eigen::MatrixXf x = Eigen::MatrixXf::Random(32, channels);
  Eigen::MatrixXf y(32, channels), dx(32, channels);
  batchnorm::BatchNorm<float, 2> alone(channels);
  batchnorm::SyncBatchNorm<float, 2, batchnorm::MpiCommunicator> together(batchnorm::BatchNormOptions(channels),
                                                                          processes);
  const auto step = [&](auto& layer) {
    return median_of(
        [&] {
          layer.forward(x, y);
          layer.backward(x, y, dx);
        },
        runs);
  };
  const double step_alone = step(alone), step_together = step(together);
  if (processes.rank() == 0) {
    std::printf("%9d %8td %10zu %10.1f %10.1f %10.1f %10.1f\n", processes.size(), channels, 8 * ranks * numbers, gather,
                by_owners, step_alone, step_together);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {
    const batchnorm::MpiCommunicator processes(MPI_COMM_WORLD);
    if (processes.rank() == 0) {
      std::printf("%9s %8s %10s %10s %10s %10s %10s\n", "processes", "channels", "bytes", "gather us", "owners us",
                  "alone us", "sync us");
    }
    for (const Eigen::Index channels : {64, 512, 2048}) measure(processes, channels, 101);
  }
  MPI_Finalize();
}
