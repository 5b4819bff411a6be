#include "run_impl.hpp"

Outcome run_half(const Problem& problem) { return run_as<Eigen::half>(problem); }
