#!/bin/sh
# Builds and runs the consumer with the flags that pkg-config gives: PREFIX COMPILER SOURCE OUTPUT
set -eu
PKG_CONFIG_PATH=$1/share/pkgconfig:${PKG_CONFIG_PATH:-}
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags batchnorm)
case $flags in
  *"$1"*) ;;
  *)
    echo "the flags do not lead to $1: $flags" >&2
    exit 1
    ;;
esac
# shellcheck disable=SC2086  # one word a flag
"$2" -std=c++17 $flags "$3" -o "$4"
"$4"
