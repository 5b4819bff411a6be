// The library on one thread; with several on those of an Eigen pool, and for comparison with libraries on OpenMP's on
// such as spin, too.

#include "contenders.hpp"
#include "our_layer.hpp"
#include "spinning_team.hpp"

namespace bench {
namespace {

template <int Rank>
std::vector<Contender> ours_of_rank(const Problem& problem, Pass pass, Threads threads) {
  if (threads.count == 1) return {our_layer<Rank>(Eigen::DefaultDevice(), "batchnorm", problem, pass)};
  return {our_layer<Rank>(*threads.device, "batchnorm", problem, pass),
          our_layer<Rank>(SpinningDevice(spinning_team(threads.count)), "spinning", problem, pass)};
}

}  // namespace

std::vector<Contender> ours(const Problem& problem, Pass pass, Threads threads) {
  return problem.shape.rank_2() ? ours_of_rank<2>(problem, pass, threads) : ours_of_rank<4>(problem, pass, threads);
}

}  // namespace bench
