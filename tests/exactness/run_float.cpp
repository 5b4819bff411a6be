#include "run_impl.hpp"

Outcome run_float(const Problem& problem) { return run_as<float>(problem); }
