#!/usr/bin/env bash
# What the library costs to compile: the umbrella beside Eigen's Tensor header alone, and one layer used.
#
#   bash cmake/compile_time.sh [COMPILER [FLAGS...]]     default: c++ -O2
#
# Each figure is the processor time of the compiler, the best of five runs. The goals: the umbrella at most 15 % more than
# Eigen's header, a layer trained and applied at most one second more than the umbrella. Exits 1 where a goal is missed.
# The last line is for units that leave the kernels to another (batchnorm/kernels.hpp).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compiler=${1:-c++}
shift || true
flags=("${@:--O2}")
eigen=$(pkg-config --cflags eigen3 2>/dev/null || echo -I/usr/include/eigen3)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo '#include <unsupported/Eigen/CXX11/Tensor>' >"$work/eigen.cpp"
echo '#include <batchnorm/batchnorm.hpp>' >"$work/umbrella.cpp"
cat >"$work/layer.cpp" <<'CPP'
#include <batchnorm/batchnorm.hpp>

using Tensor = Eigen::Tensor<float, 4, Eigen::RowMajor>;

void step(batchnorm::BatchNorm<float, 4>& bn, const Tensor& x, Tensor& y, const Tensor& dy, Tensor& dx) {
  bn.forward(x, y);
  bn.backward(x, dy, dx);
}
CPP

# The best times, in milliseconds. All take turns, so that a busy machine is busy for all of them.
declare -A best
for _ in 1 2 3 4 5; do
  for unit in eigen umbrella layer extern_layer; do
    define=
    [[ $unit != extern_layer ]] || define=-DBATCHNORM_EXTERN_KERNELS
    # shellcheck disable=SC2086  # one word a flag
    took=$(TIMEFORMAT=%3U && { time "$compiler" -std=c++17 "${flags[@]}" $define -Iinclude $eigen \
      -c "$work/${unit#extern_}.cpp" -o "$work/$unit.o" 2>&3; } 3>&2 2>&1)
    took=$((10#${took/./}))
    ((took >= ${best[$unit]:-999999999})) || best[$unit]=$took
  done
done

echo "$("$compiler" --version | head -n 1), ${flags[*]}"
awk -v e="${best[eigen]}" -v u="${best[umbrella]}" -v l="${best[layer]}" -v x="${best[extern_layer]}" 'BEGIN {
  printf "Eigen Tensor header        %6.2f s\n", e / 1000
  printf "batchnorm/batchnorm.hpp    %6.2f s  %+.0f %% (goal: at most +15 %%)\n", u / 1000, 100 * (u - e) / e
  printf "one layer, both directions %6.2f s  %+.2f s (goal: at most +1 s)\n", l / 1000, (l - u) / 1000
  printf "the same, kernels elsewhere%6.2f s  %+.2f s\n", x / 1000, (x - u) / 1000
  exit !(u <= 1.15 * e && l <= u + 1000)
}'
