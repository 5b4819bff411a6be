// What data-parallel training does beside batch normalization: each process has its share of a batch, and the gradients
// of the shares are added.

#ifndef TRAIN_DIGITS_MPI_PROCESSES_HPP
#define TRAIN_DIGITS_MPI_PROCESSES_HPP

#include <batchnorm/mpi.hpp>

#include <stdexcept>
#include <vector>

#include "parameter.hpp"

namespace train_digits_mpi {

/// The samples of a batch that are this process's: [begin, end). Shares differ by one at most.
struct Share {
  std::size_t begin, end;
};

inline Share share_of(std::size_t batch, const batchnorm::MpiCommunicator& processes) {
  const auto rank = static_cast<std::size_t>(processes.rank()), size = static_cast<std::size_t>(processes.size());
  return {batch * rank / size, batch * (rank + 1) / size};
}

inline void check(int mpi_code) {
  if (mpi_code != MPI_SUCCESS) throw std::runtime_error("an exchange of gradients failed");
}

/// Puts in place of each gradient the sum of those of all processes, and returns the sum of their losses. One message
/// for all.
template <class T>
double sum_over_processes(double loss, std::vector<why_batch_norm::Parameter<T>>& parameters,
                          const batchnorm::MpiCommunicator& processes, std::vector<double>& memory) {
  memory.assign(1, loss);
  for (const auto& parameter : parameters) {
    memory.insert(memory.end(), parameter.gradient.data(), parameter.gradient.data() + parameter.gradient.size());
  }
  check(MPI_Allreduce(MPI_IN_PLACE, memory.data(), static_cast<int>(memory.size()), MPI_DOUBLE, MPI_SUM,
                      processes.handle()));
  const double* next = memory.data() + 1;
  for (auto& parameter : parameters) {
    for (T& gradient : parameter.gradient) gradient = static_cast<T>(*next++);
  }
  return memory[0];
}

/// Whether all processes hold the same numbers, bit for bit.
template <class T>
bool same_on_all(const std::vector<why_batch_norm::Parameter<T>>& parameters,
                 const batchnorm::MpiCommunicator& processes) {
  std::vector<double> least;
  for (const auto& parameter : parameters) {
    least.insert(least.end(), parameter.value.data(), parameter.value.data() + parameter.value.size());
  }
  std::vector<double> largest = least;
  const int count = static_cast<int>(least.size());
  check(MPI_Allreduce(MPI_IN_PLACE, least.data(), count, MPI_DOUBLE, MPI_MIN, processes.handle()));
  check(MPI_Allreduce(MPI_IN_PLACE, largest.data(), count, MPI_DOUBLE, MPI_MAX, processes.handle()));
  return least == largest;
}

}  // namespace train_digits_mpi

#endif  // TRAIN_DIGITS_MPI_PROCESSES_HPP
