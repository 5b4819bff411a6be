#!/usr/bin/env python3
"""Measures this checkout as several compilers and flags compile it, beside each other: see flags.sh."""

import argparse
import shutil
import sys

import compare

COMPILERS = ["g++", "clang++"]
FLAGS = ["-O2", "-O3", "-O3 -march=native"]


def main():
    parser = argparse.ArgumentParser(
        prog="flags.sh", description="Measures this library as several compilers and flags compile it, beside each other.")
    parser.add_argument("--version", default=compare.ROOT, help="a checkout or a revision; default: this checkout")
    parser.add_argument("--compiler", action="append", metavar="COMPILER", dest="compilers",
                        help="may be given several times; default: " + ", ".join(COMPILERS))
    parser.add_argument("--flags", action="append", metavar="FLAGS",
                        help="likewise, as --flags='-O2'; -DNDEBUG is added; default: " + ", ".join(FLAGS))
    compare.add_common(parser, 1.05, 1.2, 15)
    arguments = parser.parse_args()
    sides = []
    for compiler in arguments.compilers or COMPILERS:
        if shutil.which(compiler.split()[-1]) is None:
            print(f"flags.sh: {compiler} is not here and is left out", file=sys.stderr)
            continue
        sides += [compare.Side(f"{compiler.split()[-1]} {flags}", arguments.version, compiler, flags + " -DNDEBUG", [])
                  for flags in arguments.flags or FLAGS]
    if len(sides) < 2:
        sys.exit("flags.sh: two compilations at least are needed")
    return compare.run(sides, arguments, both_ways=True)


if __name__ == "__main__":
    sys.exit(main())
