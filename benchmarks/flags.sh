#!/usr/bin/env bash
# Measures this library as GCC and Clang compile it at -O2, -O3 and -O3 -march=native, all in turns, each beside the first.
# Exits 1 where one takes another time than the first by more than 5 % in the mean of a pass and layout, or by more than
# 20 % on a shape.
#
#   bash benchmarks/flags.sh [options]     --help tells them: other compilers and flags, a filter, rounds, threads, bounds
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/flags.py" "$@"
