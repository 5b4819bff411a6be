#include "run_impl.hpp"

Outcome run_bfloat16(const Problem& problem) { return run_as<Eigen::bfloat16>(problem); }
