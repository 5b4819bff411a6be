// The library on one thread; with several on those of an Eigen pool, and for comparison with libraries on OpenMP's on
// such as spin, too.

#include "contenders.hpp"
#include "our_layer.hpp"

#ifdef _OPENMP
#include <batchnorm/openmp.hpp>
#endif

namespace bench {
namespace {

template <int Rank>
std::vector<Contender> ours_of_rank(const Problem& problem, Pass pass, Threads threads) {
  if (threads.count == 1) return {our_layer<Rank>(Eigen::DefaultDevice(), "batchnorm", problem, pass)};
  std::vector<Contender> contenders = {our_layer<Rank>(*threads.device, "batchnorm", problem, pass)};
#ifdef _OPENMP
  contenders.push_back(our_layer<Rank>(batchnorm::OpenMPDevice(threads.count), "spinning", problem, pass));
#endif
  return contenders;
}

}  // namespace

std::vector<Contender> ours(const Problem& problem, Pass pass, Threads threads) {
  return problem.shape.rank_2() ? ours_of_rank<2>(problem, pass, threads) : ours_of_rank<4>(problem, pass, threads);
}

}  // namespace bench
