#!/usr/bin/env python3
"""Measures versions of this library, or compilations of one, beside each other: see compare.sh and flags.sh.

A side is compare_side.cpp, always this checkout's, compiled against one version's headers by one compiler with one set of
flags. In each round every side gets a new process, and the processes, all alive, take turns benchmark by benchmark, so
that what disturbs the machine for a while disturbs all of them. Needs the standard library only, and Linux.
"""

import argparse
import concurrent.futures
import hashlib
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
WORK = os.path.join(ROOT, "build", "compare")
SOURCES = [os.path.join(HERE, name) for name in ("compare_side.cpp", "cases.cpp", "machine.cpp")]
SHOWN = 12  # of the shapes that stand out, at either end
GRAIN = 2 << 20  # the memory of a tensor is a multiple of it, as in compare_side.cpp


def mean(values):
    """The geometric mean."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values))


def output_of(command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, universal_newlines=True, **options).stdout.strip()


def includes_of(version):
    """The include folder of a checkout, given by its path, or of a revision of this repository."""
    if os.path.isfile(os.path.join(version, "include", "batchnorm", "batchnorm.hpp")):
        return os.path.join(os.path.abspath(version), "include")
    try:
        revision = output_of(["git", "-C", ROOT, "rev-parse", "--verify", "--quiet", version + "^{commit}"])
    except subprocess.CalledProcessError:
        sys.exit(f"compare.py: {version} is neither a checkout of this library nor a revision of this repository")
    folder = os.path.join(WORK, "revisions", revision)
    if not os.path.isdir(os.path.join(folder, "include")):
        os.makedirs(folder, exist_ok=True)
        archive = subprocess.run(["git", "-C", ROOT, "archive", revision, "include"], check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return os.path.join(folder, "include")


def eigen_flags():
    try:
        return output_of(["pkg-config", "--cflags-only-I", "eigen3"], stderr=subprocess.DEVNULL).replace("-I", "-isystem").split()
    except (OSError, subprocess.CalledProcessError):
        return ["-isystem", "/usr/include/eigen3"]


class Side:
    def __init__(self, name, version, compiler, flags, environment):
        self.name, self.version, self.compiler, self.flags = name, version, shlex.split(compiler), shlex.split(flags)
        self.environment = dict(os.environ, **dict(pair.split("=", 1) for pair in environment))
        self.command = self.compiler + ["-std=c++17"] + self.flags + ["-DEIGEN_USE_THREADS", "-I", includes_of(version)]
        self.command += eigen_flags() + ["-pthread"] + SOURCES
        # Sides that differ in their environment alone run the same program.
        self.program = os.path.join(WORK, "side-" + hashlib.sha256(repr(self.command).encode()).hexdigest()[:12])
        self.process = None

    def start(self, file, floats, threads):
        self.process = subprocess.Popen(
            [self.program, "--serve", str(file), str(floats), str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            universal_newlines=True, bufsize=1, pass_fds=[file], env=self.environment)

    def ask(self, name, seconds):
        self.process.stdin.write(f"{name} {seconds}\n")
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare.py: {self.name} stopped at {name}")
        return float(answer)

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Benchmark:
    def __init__(self, name, floats, sides):
        self.name, self.floats = name, floats
        group_set, layout, self.shape, kind, threads, _ = name.split("/")
        self.group = (kind, "tiny" if group_set == "tiny" else layout, int(threads))
        self.seconds = [[] for _ in range(sides)]  # a side's times, one a round

    def ratios(self, side):
        """A side's time over the first side's, round by round."""
        return [own / first for own, first in zip(self.seconds[side], self.seconds[0])]

    def ratio(self, side):
        """What counts: the ratio of the best times or the median of the rounds' ratios, whichever is nearer to 1.

        A version that is slower is so in both; noise seldom agrees with itself.
        """
        candidates = (min(self.seconds[side]) / min(self.seconds[0]), statistics.median(self.ratios(side)))
        if min(candidates) < 1 < max(candidates):
            return 1.0
        return min(candidates, key=lambda ratio: abs(math.log(ratio)))


class Session:
    def __init__(self, sides, arguments):
        self.sides, self.arguments = sides, arguments
        listed = [line.split() for line in output_of([sides[0].program, "--list", str(arguments.threads)]).splitlines()]
        self.benchmarks = [Benchmark(name, int(floats), len(sides)) for name, floats in listed
                           if re.search(arguments.filter, name)]
        if not self.benchmarks:
            sys.exit("compare.py: no benchmark's name matches " + arguments.filter)
        self.floats = max(benchmark.floats for benchmark in self.benchmarks)
        self.file = os.memfd_create("tensors")
        os.ftruncate(self.file, 3 * -(-4 * self.floats // GRAIN) * GRAIN)
        self.filled = False
        self.turn = 0

    def round(self, benchmarks):
        for side in self.sides:
            side.start(self.file, self.floats, self.arguments.threads)
        if not self.filled:
            self.sides[0].ask("fill", 0)
            self.filled = True
        for benchmark in benchmarks:
            best = [math.inf] * len(self.sides)
            for _ in range(2):
                # Who begins changes from turn to turn; with two sides ABBA.
                order = list(range(len(self.sides)))
                order = order[self.turn % len(order):] + order[:self.turn % len(order)]
                self.turn += 1
                for i in order:
                    best[i] = min(best[i], self.sides[i].ask(benchmark.name, self.arguments.seconds))
            for i, seconds in enumerate(best):
                benchmark.seconds[i].append(seconds)
        for side in self.sides:
            side.stop()

    def rounds(self, benchmarks, words):
        begin = time.monotonic()
        for i in range(self.arguments.rounds):
            self.round(benchmarks)
            if sys.stderr.isatty():
                print(f"\r{words}: round {i + 1} of {self.arguments.rounds}, {time.monotonic() - begin:.0f} s", end="",
                      file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)

    def stands_out(self, side):
        """The shapes outside the bound, in either direction, the worst first."""
        bound = math.log(self.arguments.shape_bound)
        found = [b for b in self.benchmarks if abs(math.log(b.ratio(side))) > bound]
        return sorted(found, key=lambda b: -b.ratio(side))

    def measure(self):
        self.rounds(self.benchmarks, "all shapes")
        suspects = {id(b): b for side in range(1, len(self.sides)) for b in self.stands_out(side)}
        if suspects:
            self.rounds(list(suspects.values()), f"{len(suspects)} that stand out, again")


def microseconds(seconds):
    return f"{seconds * 1e6:.4g} us"


def report(session, side, both_ways):
    """Prints a side beside the first and returns how many bounds it breaks."""
    arguments, benchmarks = session.arguments, session.benchmarks
    first, own = session.sides[0].name, session.sides[side].name
    broken = 0
    groups = {}
    for benchmark in benchmarks:
        groups.setdefault(benchmark.group, []).append(benchmark)

    def outside(ratio, bound):
        return ratio > bound or (both_ways and ratio < 1 / bound)

    print(f"\n{own} over {first}: geometric means over the shapes, and between which numbers the middle half of\n"
          "the single rounds' own lies")
    print(f"  {'pass':9} {'layout':7} {'threads':>7} {'shapes':>7} {'ratio':>7}   rounds")
    for (kind, layout, threads), members in groups.items():
        ratio = mean(b.ratio(side) for b in members)
        rounds = sorted(mean(values) for values in zip(*(b.ratios(side)[:arguments.rounds] for b in members)))
        low, high = rounds[len(rounds) // 4], rounds[-1 - len(rounds) // 4]
        # A single shape is judged as one.
        wrong = len(members) > 1 and outside(ratio, arguments.mean_bound)
        broken += wrong
        print(f"  {kind:9} {layout:7} {threads:7} {len(members):7} {ratio:7.3f}   {low:.3f} ... {high:.3f}"
              + (f"   outside {arguments.mean_bound:g}" if wrong else ""))
    print(f"  all: {mean(b.ratio(side) for b in benchmarks):.3f}")
    odd = session.stands_out(side)
    if odd:
        print(f"  shapes that stand out ({arguments.shape_bound:g}), measured twice as often:")
    for i, b in enumerate(odd):
        wrong = outside(b.ratio(side), arguments.shape_bound)
        broken += wrong
        if SHOWN <= i < len(odd) - SHOWN:
            if i == SHOWN:
                print(f"            ... {len(odd) - 2 * SHOWN} more ...")
            continue
        print(f"    {b.ratio(side):6.3f}  {b.name.rsplit('/', 1)[0]}  {microseconds(min(b.seconds[0]))} ->"
              f" {microseconds(min(b.seconds[side]))}" + ("" if wrong else "  (faster)"))
    if not odd:
        worst = max(benchmarks, key=lambda b: abs(math.log(b.ratio(side))))
        print(f"  no shape stands out; the farthest is {worst.name.rsplit('/', 1)[0]} at {worst.ratio(side):.3f}")
    return broken


def run(sides, arguments, both_ways=False):
    os.makedirs(WORK, exist_ok=True)
    commands = {side.program: side.command + ["-o", side.program] for side in sides}
    with concurrent.futures.ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as jobs:
        for job in [jobs.submit(subprocess.run, command, check=True) for command in commands.values()]:
            job.result()
    print(output_of([sides[0].program, "--machine"]), end="")
    print(f"; {os.cpu_count()} processors; load {os.getloadavg()[0]:.1f} at the start")
    for side in sides:
        print(f"  {side.name}: {side.version}, {' '.join(side.compiler + side.flags)}")
    sys.stdout.flush()
    session = Session(sides, arguments)
    begin = time.monotonic()
    session.measure()
    print(f"{len(session.benchmarks)} benchmarks, {arguments.rounds} rounds, {time.monotonic() - begin:.0f} s")
    broken = sum(report(session, side, both_ways) for side in range(1, len(sides)))
    print(f"\n{broken} bounds broken" if broken else "\nwithin the bounds")
    return 1 if broken else 0


def add_common(parser, mean_bound, shape_bound, rounds):
    parser.add_argument("--filter", default="", metavar="REGEX", help="only benchmarks in whose names REGEX is found; "
                        "a name is SET/LAYOUT/SHAPE/PASS/THREADS/batchnorm")
    parser.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="measured beside one; 1: one alone; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=0.005, help="of a turn, of which a side has two a round; default: "
                        "%(default)s, or two calls")
    parser.add_argument("--mean-bound", type=float, default=mean_bound, help="for a geometric mean; default: %(default)s")
    parser.add_argument("--shape-bound", type=float, default=shape_bound, help="for one shape; default: %(default)s")


def compare(words):
    parser = argparse.ArgumentParser(prog="compare.sh", description="Measures two versions of this library beside each other.")
    parser.add_argument("old", metavar="OLD", help="the path of a checkout, or a revision of this repository")
    parser.add_argument("new", metavar="NEW", nargs="?", help="likewise")
    parser.add_argument("--self", action="store_true", dest="beside_itself",
                        help="OLD beside itself, in place of NEW: the noise of the machine")
    add_common(parser, 1.03, 1.16, 30)
    parser.add_argument("--compiler", default="c++", help="default: %(default)s; more words than one may be given")
    parser.add_argument("--flags", default="-O3 -DNDEBUG", help="default: '%(default)s', which are those of CMake's Release")
    parser.add_argument("--env-old", action="append", default=[], metavar="NAME=VALUE", help="for OLD's processes alone")
    parser.add_argument("--env-new", action="append", default=[], metavar="NAME=VALUE", help="for NEW's processes alone")
    arguments = parser.parse_args(words)
    if (arguments.new is None) != arguments.beside_itself:
        parser.error("give two versions, or one and --self")
    new = arguments.old if arguments.beside_itself else arguments.new
    sides = [Side("OLD", arguments.old, arguments.compiler, arguments.flags, arguments.env_old),
             Side("NEW", new, arguments.compiler, arguments.flags, arguments.env_new)]
    return run(sides, arguments)


if __name__ == "__main__":
    sys.exit(compare(sys.argv[1:]))
