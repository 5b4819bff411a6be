#!/usr/bin/env bash
# The tests with every compiler, standard, Eigen, Catch2 and CMake that the project promises to work with.
#
#   bash cmake/matrix.sh                       in bare systems of Debian 12, 13 and testing (needs root and
#                                              ../shared/tools/fresh-machine; elsewhere, with the compilers here)
#   bash cmake/matrix.sh here [COMPILER...]    on this machine, with these compilers or with all that it has
#   ONLY=headers bash cmake/matrix.sh ...      the same without building the tests in C++17, in a quarter of the time
#   bash cmake/matrix.sh quick                 one line of it: this machine's c++, C++20, headers and consumers only
#   bash cmake/matrix.sh full                  other platforms: tests/portable on ARMv7, AArch64, RISC-V 64 and s390x under
#                                              QEMU, and on Windows under Wine, there at -O0 to -O3 and with each
#                                              instruction set; and the code blocks of every page of the guide. Installs
#                                              what it needs with apt (needs root, Debian); what cannot be had is
#                                              skipped, and said to be
#
# Each compiler builds and runs everything in C++17, and in C++20 and 23 what includes the headers: each header alone, the
# consumers, the units of several instruction sets; without what has the label one_standard, on which the standard of C++
# has no bearing. Warnings are errors throughout. The table at the end is the result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Which system brings which compilers; what a system lacks in its archive is left out of the table.
declare -A compilers=(
  [bookworm]="g++-12 clang++-14 clang++-15 clang++-16"
  [trixie]="g++-13 g++-14 clang++-17 clang++-18 clang++-19"
  [forky]="g++-15 g++-16 clang++-19 clang++-21"
)
fresh_machine=../shared/tools/fresh-machine

version_of() { "$1" --version | sed -nE '1s/.* ([0-9]+\.[0-9]+(\.[0-9]+)?).*/\1/p'; }

# shellcheck source=/dev/null
system() { (. /etc/os-release && echo "${VERSION_CODENAME:-$ID}"); }

# One line of the matrix: COMPILER STANDARD WHAT (everything, or headers). Prints its row.
line() {
  local compiler=$1 standard=$2 what=$3 build log started=$SECONDS result=passed count=
  build=build/matrix/$compiler-$standard log=build/matrix/$compiler-$standard.log
  mkdir -p build/matrix
  local targets=(all) options=() tests=()
  if [[ $what != everything ]]; then
    # It is the compiler's front end that knows standards.
    options=(-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DBATCHNORM_BUILD_EXAMPLES=OFF)
    targets=(batchnorm_packaging) tests=(--label-regex packaging)
    if ((standard == 17)); then
      targets+=(batchnorm_packaging_one_standard)
    else
      tests+=(--label-exclude one_standard)
    fi
  fi
  # Clang 17 with libstdc++ 14 in C++23: then Eigen's thread pool does not compile either.
  if ! "$compiler" -std="c++$standard" -fsyntax-only -x c++ - 2>/dev/null \
    <<<$'#include <functional>\n#include <thread>\nstd::thread run(std::function<void()> f) { return std::thread(f); }'; then
    row "$(system)" "$compiler $(version_of "$compiler")" "C++$standard" - - - "$what" 0 "skipped" "no std::thread"
    return
  fi
  # The system's Catch2 needs the newest runtime, which an older GCC's own libstdc++.so does not stand for.
  [[ $compiler != g++* ]] || options+=(-DCMAKE_CXX_STANDARD_LIBRARIES=-l:libstdc++.so.6)
  {
    cmake --preset test -B "$build" -DCMAKE_CXX_COMPILER="$(command -v "$compiler")" -DCMAKE_CXX_STANDARD="$standard" \
      -DBATCHNORM_BUILD_BENCHMARKS=OFF "${options[@]}" &&
      cmake --build "$build" --parallel "${JOBS:-2}" --target "${targets[@]}" &&
      ctest --test-dir "$build" --parallel "${JOBS:-2}" --no-tests=error --output-on-failure "${tests[@]}"
  } >"$log" 2>&1 || result=FAILED
  count=$(sed -nE 's/.* tests failed out of ([0-9]+).*/\1/p' "$log" | tail -n 1)
  row "$(system)" "$compiler $(version_of "$compiler")" "C++$standard" \
    "$(sed -nE 's/^-- batchnorm: Eigen ([0-9.]+).*/\1/p' "$log" | tail -n 1)" \
    "$(sed -nE 's/^-- batchnorm: .*Catch2 ([0-9.]+).*/\1/p' "$log" | tail -n 1)" \
    "$(version_of cmake)" "$what" "${count:-0}" "$result" "$((SECONDS - started)) s"
  [[ $result == passed ]] || {
    tail -n 25 "$log" | sed 's/^/    /'
    return 1
  }
  rm -rf "$build"
}

row() { printf 'matrix: %-9s %-18s %-6s %-6s %-8s %-7s %-10s %6s %-7s %7s\n' "$@"; }
header() { row system compiler std Eigen Catch2 CMake what tests result time; }

here() {
  local rc=0 all=("$@")
  bash cmake/bootstrap.sh test --install-only
  if ((${#all[@]} == 0)); then
    for version in 12 13 14 15 16; do command -v "g++-$version" >/dev/null && all+=("g++-$version"); done
    for version in 14 15 16 17 18 19 20 21; do command -v "clang++-$version" >/dev/null && all+=("clang++-$version"); done
    ((${#all[@]})) || all=(c++)
  fi
  for compiler in "${all[@]}"; do
    if ! command -v "$compiler" >/dev/null && ((EUID == 0)) && command -v apt-get >/dev/null; then
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${compiler/clang++/clang}" \
        </dev/null >/dev/null 2>&1 || true
    fi
    command -v "$compiler" >/dev/null || {
      echo "matrix: this system has no $compiler"
      continue
    }
    line "$compiler" 17 "${ONLY:-everything}" || rc=1
    line "$compiler" 20 headers || rc=1
    line "$compiler" 23 headers || rc=1
  done
  return $rc
}

# Every platform but this one, and the guide. ctest's list is the result.
full() {
  local build=build/matrix/full
  local packages=(
    qemu-user wine64 g++-mingw-w64-x86-64-posix g++-aarch64-linux-gnu g++-arm-linux-gnueabihf g++-riscv64-linux-gnu
    g++-s390x-linux-gnu
  )
  bash cmake/bootstrap.sh test --install-only
  if command -v apt-get >/dev/null && ((EUID == 0)); then
    # One by one, since not every system has them all.
    for package in "${packages[@]}"; do
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" </dev/null >/dev/null 2>&1 ||
        echo "matrix: this system has no $package"
    done
  else
    echo "matrix: nothing is installed, so what is not here of ${packages[*]} is skipped"
  fi
  cmake --preset test -B "$build" -DBATCHNORM_BUILD_EXAMPLES=OFF -DBATCHNORM_PORTABLE_FULL=ON \
    -DBATCHNORM_TEST_EVERY_PAGE=ON
  cmake --build "$build" --parallel "${JOBS:-2}" --target batchnorm_portable batchnorm_pages
  ctest --test-dir "$build" --parallel "${JOBS:-2}" --no-tests=error --output-on-failure --label-regex '^(portable|docs)$'
}

case ${1:-all} in
  quick)
    bash cmake/bootstrap.sh test --install-only
    header
    line c++ 20 headers
    ;;
  full)
    full
    ;;
  here)
    shift
    header
    here "$@"
    ;;
  all)
    if [[ ! -x $fresh_machine ]]; then
      header
      here
      exit
    fi
    mkdir -p build/matrix
    : >build/matrix/rows
    rc=0
    for suite in bookworm trixie forky; do
      "$fresh_machine" "$suite" "JOBS=${JOBS:-2} ONLY=${ONLY:-} bash cmake/matrix.sh here ${compilers[$suite]}" 2>&1 |
        tee "build/matrix/$suite.log" || rc=1
      grep -E '^matrix: ' "build/matrix/$suite.log" | grep -v ' system ' >>build/matrix/rows || true
    done
    echo
    header
    cat build/matrix/rows
    exit $rc
    ;;
  *)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' cmake/matrix.sh >&2
    exit 2
    ;;
esac
