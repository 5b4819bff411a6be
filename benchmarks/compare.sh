#!/usr/bin/env bash
# Measures two versions of this library beside each other, in turns, and exits 1 where the new one is slower.
#
#   bash benchmarks/compare.sh OLD NEW [options]      each the path of a checkout or a git revision
#   bash benchmarks/compare.sh OLD --self [options]   OLD beside itself: how large the noise of this machine is
#   bash benchmarks/compare.sh --help                 the options: a filter, rounds, threads, flags, bounds
#
# Both are measured by this checkout's benchmarks, so that an old version needs none of its own. README.md says more.
set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/compare.py" "$@"
