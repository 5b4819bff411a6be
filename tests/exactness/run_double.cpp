#include "run_impl.hpp"

Outcome run_double(const Problem& problem) { return run_as<double>(problem); }
