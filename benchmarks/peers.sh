#!/usr/bin/env bash
# Installs PyTorch and oneDNN beside what the benchmarks need (Debian, as root or with sudo), builds the benchmarks with
# both, runs them and prints the table. The results stay in build/bench/benchmarks: results.json, table.md, chart.svg.
#
#   bash benchmarks/peers.sh [--install-only | --build-only]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

as_root=()
if ((EUID != 0)); then as_root=(sudo); fi
bash cmake/bootstrap.sh bench --install-only
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  libtorch-dev libdnnl-dev </dev/null >/dev/null
[[ ${1:-} != --install-only ]] || exit 0

cmake --preset bench -DBATCHNORM_BENCHMARK_PEERS=ON
cmake --build --preset bench --target bench --parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-2}"
[[ ${1:-} != --build-only ]] || exit 0
cmake --build --preset bench --target bench_table
