// Writes the results of a few problems to standard output, as doubles: for isa_test.cpp, which runs this at every
// instruction set.

#include <cstdio>

#include "isa_problems.hpp"

int main() {
  for (const IsaProblem& p : isa_problems()) {
    const Outcome outcome = run(p.type, p.problem());
    for (const auto* values : {&outcome.y, &outcome.dx, &outcome.running_mean, &outcome.running_var,
                               &outcome.weight_grad, &outcome.bias_grad}) {
      std::fwrite(values->data(), sizeof(double), values->size(), stdout);
    }
  }
}
