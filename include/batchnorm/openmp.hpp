// OpenMP's threads as a device for the calls of a layer. Compile with -fopenmp (GCC, Clang) or /openmp (MSVC), or link
// CMake's OpenMP::OpenMP_CXX; the umbrella batchnorm.hpp does not include this header.

#ifndef BATCHNORM_OPENMP_HPP
#define BATCHNORM_OPENMP_HPP

#ifndef _OPENMP
#error "batchnorm: <batchnorm/openmp.hpp> needs OpenMP, so compile with -fopenmp (GCC, Clang) or /openmp (MSVC)"
#else

#include <omp.h>

#include <exception>

#include "batchnorm/detail/interface/error.hpp"
#include "batchnorm/detail/interface/tensor.hpp"

BATCHNORM_NAMESPACE_BEGIN

/// OpenMP's threads, as an Eigen-like device that stands in front of a call's other arguments:
///
///     layer.forward(batchnorm::OpenMPDevice(), x, y);
///
/// Programs whose other work runs on OpenMP use it to share one team of threads with that work. These threads wait for
/// work in a busy loop for a while, so they begin at once where the sleeping threads of a pool would first have to
/// wake. It holds nothing but a number, costs nothing to make, and may be used from many threads at once. Results have
/// the same bits as on one thread.
///
/// Inside a parallel region of the caller's it is a device of one thread, the caller: the region's other threads have
/// work of their own, and a nested region would start threads beyond the processors that there are.
class OpenMPDevice {
 public:
  /// As many threads as a parallel region would have here: OMP_NUM_THREADS, or what omp_set_num_threads was given.
  OpenMPDevice() : threads_(omp_get_max_threads()) {}

  /// At most so many threads. Throws std::invalid_argument below 1.
  explicit OpenMPDevice(int threads) : threads_(threads) {
    detail::require(threads >= 1, "OpenMPDevice: expected at least 1 thread, got ", threads);
  }

  /// The threads that a call can use from where it is asked: 1 inside a parallel region.
  int numThreads() const { return omp_in_parallel() ? 1 : threads_; }

  /// The caller's number in the parallel region that it is in, -1 outside of any, as Eigen's devices have it.
  int currentThreadId() const { return omp_in_parallel() ? omp_get_thread_num() : -1; }

  /// function(i, i + 1) for each i in [0, n), whatever the cost says: i on the same thread in every call for as many,
  /// which finds in its cache what it left there. Inside a parallel region the caller does all. An exception out of the
  /// function comes out of here, the first one if there are several, once the other threads have come to their end.
  template <class Function>
  void parallelFor(Eigen::Index n, const Eigen::TensorOpCost&, const Function& function) const {
    if (n <= 1 || omp_in_parallel()) {
      for (Eigen::Index i = 0; i < n; ++i) function(i, i + 1);
      return;
    }
    // An exception must not leave the region, which would end the program.
#if BATCHNORM_EXCEPTIONS
    std::exception_ptr first;
#endif
    const int threads = n < threads_ ? static_cast<int>(n) : threads_;
#pragma omp parallel for schedule(static, 1) num_threads(threads)
    for (Eigen::Index i = 0; i < n; ++i) {
#if BATCHNORM_EXCEPTIONS
      try {
        function(i, i + 1);
      } catch (...) {
#pragma omp critical(batchnorm_openmp_device)
        if (!first) first = std::current_exception();
      }
#else
      function(i, i + 1);
#endif
    }
#if BATCHNORM_EXCEPTIONS
    if (first) std::rethrow_exception(first);
#endif
  }

 private:
  int threads_;
};

BATCHNORM_NAMESPACE_END

#endif  // _OPENMP

#endif  // BATCHNORM_OPENMP_HPP
