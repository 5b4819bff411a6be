// Processes of MPI that share a batch. Needs an MPI library and its mpi.h: link CMake's batchnorm::mpi, or compile with
// the wrapper mpicxx. The umbrella batchnorm.hpp does not include this header.

#ifndef BATCHNORM_MPI_HPP
#define BATCHNORM_MPI_HPP

#include <mpi.h>

#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "batchnorm/communicator.hpp"

BATCHNORM_NAMESPACE_BEGIN
namespace detail {

/// A duplicate of a communicator of MPI's, which is freed with it.
class MpiDuplicate {
 public:
  explicit MpiDuplicate(MPI_Comm original) {
    check_mpi_runs();
    require(
        original != MPI_COMM_NULL,
        "MpiCommunicator: expected a communicator, got MPI_COMM_NULL, which MPI_Comm_split gives those that are in no "
        "part");
    int between_groups = 0;
    check("MPI_Comm_test_inter", MPI_Comm_test_inter(original, &between_groups));
    require(between_groups == 0, "MpiCommunicator: expected a communicator within one group, got one between two");
    check("MPI_Comm_dup", MPI_Comm_dup(original, &communicator_));
    // From here on the destructor has something to free, but it does not run where the constructor throws.
    int code = MPI_Comm_set_errhandler(communicator_, MPI_ERRORS_RETURN);
    if (code == MPI_SUCCESS) code = MPI_Comm_rank(communicator_, &rank_);
    if (code == MPI_SUCCESS) code = MPI_Comm_size(communicator_, &size_);
    if (code != MPI_SUCCESS) {
      MPI_Comm_free(&communicator_);
      check("the duplicate of a communicator", code);
    }
  }

  MpiDuplicate(const MpiDuplicate&) = delete;
  MpiDuplicate& operator=(const MpiDuplicate&) = delete;

  ~MpiDuplicate() {
    int over = 0;
    if (MPI_Finalized(&over) == MPI_SUCCESS && over == 0) MPI_Comm_free(&communicator_);
  }

  MPI_Comm get() const { return communicator_; }
  int rank() const { return rank_; }
  int size() const { return size_; }

  /// Throws std::logic_error where MPI is not initialized yet, or has been finalized.
  static void check_mpi_runs() {
    int begun = 0, over = 0;
    check("MPI_Initialized", MPI_Initialized(&begun));
    if (begun == 0) {
      fail<std::logic_error>(
          "MpiCommunicator: expected MPI to be initialized, which is the program's to do; call MPI_Init or "
          "MPI_Init_thread before");
    }
    check("MPI_Finalized", MPI_Finalized(&over));
    if (over != 0) fail<std::logic_error>("MpiCommunicator: expected MPI to run, got a call after MPI_Finalize");
  }

  /// Throws std::runtime_error with MPI's own words unless the code is that of success.
  static void check(const char* function, int code) {
    if (code == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = {};
    int length = 0;
    if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) length = 0;
    fail<std::runtime_error>("MpiCommunicator: ", function, " failed with error ", code, ": ",
                             std::string(text, static_cast<std::size_t>(length)));
  }

  /// A number of doubles as MPI counts. Throws std::invalid_argument if it is too large for that.
  static int count(std::size_t n) {
    constexpr int most = (std::numeric_limits<int>::max)();
    require(n <= static_cast<std::size_t>(most), "MpiCommunicator: expected at most ", most,
            " numbers for each process, as many as MPI counts, got ", n);
    return static_cast<int>(n);
  }

 private:
  MPI_Comm communicator_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 0;
};

}  // namespace detail

/// The processes of a communicator of MPI's, for layers whose batch they share:
///
///     MPI_Init(&argc, &argv);
///     {
///       batchnorm::MpiCommunicator world(MPI_COMM_WORLD);
///       batchnorm::SyncBatchNorm<float, 4, batchnorm::MpiCommunicator> bn(64, world);
///       ...
///     }
///     MPI_Finalize();
///
/// It never initializes or finalizes MPI. It works with a duplicate of the communicator that it is given, which may be
/// of a part of the processes (MPI_Comm_split): its messages are no one else's, and its errors are exceptions, whatever
/// error handler the program has set. Copies share the duplicate, and the last of them frees it, unless MPI is
/// finalized by then; so they may outlive MPI, but cannot be used any more.
///
/// All calls are made on the calling thread, one at a time; if that is not the thread that initialized MPI, the program
/// asks MPI_Init_thread for MPI_THREAD_SERIALIZED or more.
///
/// What a process that dies means for the others is MPI's to say: mpirun ends them all. A process that goes on without
/// the others, after an exception of its own, say, calls MPI_Abort, since they would wait for it.
class MpiCommunicator {
 public:
  /// The processes of `communicator`, which all of them call (it is duplicated). Throws std::logic_error where MPI is
  /// not initialized or has been finalized, std::invalid_argument for MPI_COMM_NULL and for a communicator between
  /// groups, std::runtime_error with MPI's words where MPI fails; an error of the duplication itself goes to the error
  /// handler of the communicator that is given, which by default ends the program.
  explicit MpiCommunicator(MPI_Comm communicator)
      : duplicate_(std::make_shared<const detail::MpiDuplicate>(communicator)) {}

  /// The number of this process in the communicator, from 0.
  int rank() const { return duplicate_->rank(); }
  /// How many processes the communicator has.
  int size() const { return duplicate_->size(); }

  /// MPI_Allgather of n doubles of each process. Throws std::runtime_error with MPI's words where it fails,
  /// std::invalid_argument for more numbers than an int counts, and std::logic_error after MPI_Finalize.
  void all_gather(const double* mine, std::size_t n, double* all) const {
    using Mpi = detail::MpiDuplicate;
    Mpi::check_mpi_runs();
    const int count = Mpi::count(n);
    Mpi::check("MPI_Allgather", MPI_Allgather(mine, count, MPI_DOUBLE, all, count, MPI_DOUBLE, duplicate_->get()));
  }

  /// MPI_Alltoall of n doubles of each process for each. Throws as all_gather does.
  void all_to_all(const double* send, std::size_t n, double* receive) const {
    using Mpi = detail::MpiDuplicate;
    Mpi::check_mpi_runs();
    const int count = Mpi::count(n);
    Mpi::check("MPI_Alltoall", MPI_Alltoall(send, count, MPI_DOUBLE, receive, count, MPI_DOUBLE, duplicate_->get()));
  }

  /// MPI's own handle of the duplicate, for the program's other messages among the same processes (the sums of its
  /// gradients, say). It is valid as long as a copy of this communicator is, and its errors are returned.
  MPI_Comm handle() const { return duplicate_->get(); }

 private:
  std::shared_ptr<const detail::MpiDuplicate> duplicate_;
};

BATCHNORM_NAMESPACE_END

#endif  // BATCHNORM_MPI_HPP
