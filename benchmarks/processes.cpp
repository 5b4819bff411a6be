// What an exchange between processes takes: of MpiCommunicator alone, and within a step of a layer. Run by mpirun; the
// first process prints what it took.

#include <batchnorm/batchnorm.hpp>
#include <batchnorm/mpi.hpp>
#include <batchnorm/sync_batch_norm.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace {

// Of many runs of f, the time that a tenth of them stay below, and half of them; in microseconds, of the process that
// takes longest. Where processors have other work, half of the runs may wait for a process that does not run.
struct Times {
  double tenth, half;
};

template <class F>
Times times_of(const F& f, int runs) {
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    const double begin = MPI_Wtime();
    f();
    double time = 1e6 * (MPI_Wtime() - begin), longest = 0;
    MPI_Allreduce(&time, &longest, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    times.push_back(longest);
  }
  std::sort(times.begin(), times.end());
  return {times[times.size() / 10], times[times.size() / 2]};
}

void measure(const batchnorm::MpiCommunicator& processes, Eigen::Index channels, int runs) {
  const auto ranks = static_cast<std::size_t>(processes.size());
  const std::size_t numbers = 4 + 3 * static_cast<std::size_t>(channels);
  std::vector<double> mine(numbers, 1.0), all(ranks * numbers);
  const Times gather = times_of([&] { processes.all_gather(mine.data(), numbers, all.data()); }, runs);

  // The two exchanges of channels that are merged by their owners.
  const std::size_t owned = (static_cast<std::size_t>(channels) + ranks - 1) / ranks;
  std::vector<double> send(ranks * (4 + 3 * owned), 1.0), receive(send.size());
  const Times by_owners = times_of(
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
    return times_of(
        [&] {
          layer.forward(x, y);
          layer.backward(x, y, dx);
        },
        runs);
  };
  const Times step_alone = step(alone), step_together = step(together);
  if (processes.rank() == 0) {
    std::printf("%9d %8td %9zu", processes.size(), channels, 8 * ranks * numbers);
    for (const Times& times : {gather, by_owners, step_alone, step_together}) {
      std::printf(" %9.1f %9.1f", times.tenth, times.half);
    }
    std::printf("\n");
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {
    const batchnorm::MpiCommunicator processes(MPI_COMM_WORLD);
    if (processes.rank() == 0) {
      std::printf("%9s %8s %9s %19s %19s %19s %19s\n", "processes", "channels", "bytes", "gather, us 10% 50%",
                  "by owners", "step alone", "step together");
    }
    for (const Eigen::Index channels : {64, 512, 2048}) measure(processes, channels, 101);
  }
  MPI_Finalize();
}
