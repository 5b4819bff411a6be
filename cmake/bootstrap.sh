#!/usr/bin/env bash
# Installs what a CMake workflow preset of this project needs and this machine lacks, then runs the preset.
#
#   bash cmake/bootstrap.sh PRESET [--install-only]
#
# PRESET is one of:
#   demo    the claims about batch normalization, measured on real images and drawn
#   deploy  the example deploy: a network from PyTorch to C++ and back (PyTorch and safetensors: Debian from forky on)
#   mpi     the tests of layers over the processes of Open MPI and MPICH, and the example train_digits_mpi
#   test    the tests
#   bench   the benchmarks and their table
#   asan    the tests under the address and undefined behaviour sanitizers
#   tsan    the tests under the thread sanitizer
#   fuzz    the fuzz targets, each for a short while
#   docs    the reference and the guide as HTML
#
# Packages come from apt (Debian 12 or later, Ubuntu 24.04 or later), as root or with sudo. Elsewhere nothing is
# installed: CMake finds the libraries it needs or fetches them by pinned hash.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() { sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "cmake/bootstrap.sh"; }

preset=${1:-} option=${2:-}
if [[ -n $option && $option != --install-only ]]; then
  echo "bootstrap: there is no option '$option'" >&2
  exit 2
fi
case $preset in
  demo | deploy | mpi | test | bench | asan | tsan | fuzz | docs) ;;
  -h | --help)
    usage
    exit 0
    ;;
  *)
    if [[ -n $preset ]]; then echo "bootstrap: there is no preset '$preset'" >&2; fi
    usage >&2
    exit 2
    ;;
esac

# What this preset needs, as Debian names it. A need is "PACKAGE" (installed or not, as dpkg says) or "PACKAGE:PROGRAM"
# (anything of that name on PATH will do).
needs=(cmake:cmake make:make g++:c++ libeigen3-dev)
example=(libcli11-dev nlohmann-json3-dev zlib1g-dev python3:python3 python3-matplotlib python3-tqdm)
case $preset in
  demo) needs+=("${example[@]}" dataset-fashion-mnist) ;;
  deploy) needs+=(libcli11-dev nlohmann-json3-dev python3:python3 python3-torch python3-safetensors) ;;
  mpi) needs+=(catch2 libcli11-dev nlohmann-json3-dev libopenmpi-dev openmpi-bin libmpich-dev mpich) ;;
  test) needs+=("${example[@]}" catch2 libboost-dev pkgconf:pkg-config binutils:objdump valgrind:valgrind) ;;
  asan | tsan) needs+=(catch2 libboost-dev nlohmann-json3-dev) ;;
  bench) needs+=(libbenchmark-dev python3:python3) ;;
  fuzz) needs+=(clang:clang++ libclang-rt-dev libboost-dev nlohmann-json3-dev) ;;
  docs) needs+=(doxygen:doxygen doxygen-awesome-css python3:python3) ;;
esac

if command -v apt-get >/dev/null; then
  missing=()
  for need in "${needs[@]}"; do
    package=${need%%:*}
    if [[ $need == *:* ]]; then
      command -v "${need#*:}" >/dev/null || missing+=("$package")
    else
      [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    fi
  done
  if ((${#missing[@]})); then
    as_root=()
    if ((EUID != 0)); then
      command -v sudo >/dev/null || {
        echo "bootstrap: please install, as root: ${missing[*]}" >&2
        exit 1
      }
      as_root=(sudo)
    fi
    echo "bootstrap: installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
      </dev/null >/dev/null
  fi
else
  echo "bootstrap: without apt, these have to be there already, or be fetched by CMake: ${needs[*]%%:*}"
fi
[[ -z $option ]] || exit 0

found=$(cmake --version 2>/dev/null | sed -n '1s/[^0-9]*//p')
if [[ $(printf '%s\n' 3.25 "${found:-0}" | sort -V | head -n 1) != 3.25 ]]; then
  echo "bootstrap: CMake 3.25 or later is needed, found ${found:-none}" >&2
  exit 1
fi

# One job a core, as long as each has 2 GiB of memory: templates over Eigen want that much.
jobs=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
if [[ -r /proc/meminfo ]]; then
  fit=$(awk '/^MemAvailable:/ {print int($2 / 2097152)}' /proc/meminfo)
  ((jobs <= fit)) || jobs=$fit
fi
((jobs >= 1)) || jobs=1
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$jobs} CTEST_PARALLEL_LEVEL=${CTEST_PARALLEL_LEVEL:-$jobs}

exec cmake --workflow --preset "$preset"
