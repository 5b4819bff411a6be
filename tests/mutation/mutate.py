#!/usr/bin/env python3
"""Breaks the library on purpose and reports what the tests do not notice.

    python3 tests/mutation/mutate.py --jobs 4         # fifty mutants, four at a time: half an hour
    python3 tests/mutation/mutate.py --list           # only show them
    python3 tests/mutation/mutate.py --count 200 --seed 7 --only algebra.hpp

Each mutant is a copy of the project with one operator, constant, index or loop bound in include/ changed. The tests are
built and run stage by stage, quickest first, until one fails. A mutant that does not compile says nothing about the tests
and is replaced by the next. Exit status 0 if at most `--allowed` mutants went unnoticed.
"""
import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# What is built, then run, in this order. ctest's compile_fail tests come last.
STAGES = [["layer_tests"], ["threads_tests", "allocation_tests"], ["interface_tests", "scalar_tests"], ["no_exceptions", "portable_test"]]

# Slowest to build, and the only ones to tell digits apart where terms cancel, and channels that are summed anew.
EXACTNESS = ["exactness_tests", "isolation_tests"]

OPERATORS = [(" + ", " - "), (" - ", " + "), (" * ", " / "), (" / ", " * "), (" % ", " / "), (" < ", " <= "),
             (" <= ", " < "), (" > ", " >= "), (" >= ", " > "), (" == ", " != "), (" != ", " == "), (" && ", " || "),
             (" || ", " && "), (" += ", " -= "), ("++", "--"), ("= -", "= "), ("!", "")]

# Lines that decide how something is done and not what comes out, each with the reason. No test of results can or
# should notice them.
SPEED_ONLY = [
    (r"worth_a_thread", "when a thread is worth its waking"),
    (r"Index phase = ", "where coefficients lie in memory"),
    (r"tensors_|for_sums\(view, sizeof|_bytes\b.* = |slice_values|outer_a_slice|narrow_step|constexpr Index large", "sizes of pieces of work"),
    (r"return \{!in_place", "what goes past the cache and what is fetched ahead"),
    (r"fetch|\bahead\b|\bjump\b|next_block|NextBlock|\bnext = |\{next, |\(distance|rows \* step|Index x = 0, dy",
     "what is fetched ahead"),
    (r"Index repeat = pack|repeat \* period|least_rows = |most_slices = |< 4 \* P::size", "how long pieces of work are"),
    (r"rows_at_once|longest = |additions = |most_rows = |column_rows|packs_a_line =|Index line =", "how many values are added up at a time"),
    (r"row_channels = |max_columns = |threads == 1\) return|clamp<Index>\(outer_slices_", "sizes of pieces of work"),
    (r"bool by_columns\(const View& view\) \{|least_row = ", "which of two ways to walk"),
    (r"\bfused_?\b|unit_?\b|\bwanted\b|\bIndex block = |^ +block = |blocks_ = ceil_div|const Index cached",
     "blocks, which follow the threads and the cache"),
    (r"\bhops\b|\bfitting\b|least_run|if \(threads > 1\) block = ", "which tensors are walked block by block"),
    (r"TensorOpCost\(1e9", "a cost that makes the device use its threads"),
    (r"isa == Isa|Isa::avx2 : Isa|cpu_supports|Kernel::template call<", "which instructions compute the same"),
    (r"memory_order", "how early other tasks learn of an exception"),
    (r"most_shares|finished_channels = |const Index (share|thread) = ", "which thread does what"),
    (r": PerChannel<A, ", "room for an array more"),
    (r"^  return 1;|for \(Index i = 1; i < threads", "how many threads take part"),
    (r"Index (outer_slices_|blocks_) = 1", "replaced, but for passes that may be cut into any number of pieces"),
    (r"partition\.tile\((slice|0), 0\)\.values_per_channel", "each block's are as many"),
    (r"coarse = |8 \* std::abs|exponent, -100|(least|most|farthest) = 0x1p|0x1p-60 \* scale", "bounds with room to spare"),
    (r"const A mean = total\.mean", "a sum whose error the next lines find and add"),
    (r"unsigned eax|std::int64_t num_batches_tracked = 0;", "values set again before they are read"),
]


def code_of(line):
    """The line with comments and the contents of strings blanked, at the same columns."""
    line = re.sub(r'"(\\.|[^"\\])*"', lambda m: '"' + " " * (len(m.group()) - 2) + '"', line)
    comment = line.find("//")
    return line if comment < 0 else line[:comment] + " " * (len(line) - comment)


def skipped(code):
    stripped = code.strip()
    return (not stripped or stripped.startswith(("#", "template", "using ", "static_assert", "inline constexpr bool", "BATCHNORM_"))
            or stripped.endswith("\\") or "static_assert" in stripped
            or any(re.search(pattern, code) for pattern, _ in SPEED_ONLY))


def sites_in(path):
    """(kind, line number, mutated line) for every change that can be made to the file."""
    with open(os.path.join(ROOT, path)) as f:
        lines = f.read().split("\n")
    continued = False  # a static_assert's or a message's second line
    for number, line in enumerate(lines):
        code = code_of(line)
        was_continued, opened = continued, ("static_assert(" in code or "require(" in code) and ";" not in code
        continued = (continued or opened) and ";" not in code
        if was_continued or skipped(code):
            continue

        def replaced(start, end, text):
            return line[:start] + text + line[end:]

        loop = re.search(r"\bfor \(.*; (\w+(?:\.\w+)*) (<|>=?) ([^;]+);", code)
        if loop:
            yield "bound", number, replaced(loop.start(1), loop.end(1), loop.group(1) + " + 1")
            start = re.search(r"\bfor \(\w+ \w+ = ([^;,]+);", code)
            if start:
                yield "bound", number, replaced(start.start(1), start.end(1), start.group(1) + " + 1")
        for old, new in OPERATORS:
            at = code.find(old)
            while at >= 0:
                if not (old == "!" and code[at + 1] == "="):
                    yield "operator", number, replaced(at, at + len(old), new)
                at = code.find(old, at + len(old))
        for match in re.finditer(r"(?<![\w.])\d+(?![\w.])", code):
            yield "constant", number, replaced(match.start(), match.end(), str(int(match.group()) + 1))
        for match in re.finditer(r"(?<=\w)(\[[a-z_]\w*\]|\(c\))", code):
            if match.group() in ("[max_columns]", "[row_channels]"):  # the size of an array
                continue
            open_, close = match.group()[0], match.group()[-1]
            yield "index", number, replaced(match.start(), match.end(), open_ + "0" + close)


def all_sites(only):
    found = []
    for folder, _, names in os.walk(os.path.join(ROOT, "include")):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            if name not in ("version.hpp", "config.hpp") and re.search(only, path):
                found += [(path,) + site for site in sites_in(path)]
    return sorted(found)


class Checkout:
    """A copy of the project in which mutants are built."""

    def __init__(self, folder, flags):
        self.source, self.build, self.jobs = os.path.join(folder, "source"), os.path.join(folder, "build"), "1"
        shutil.copytree(ROOT, self.source, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".git", "build*"))
        self.run(["cmake", "-S", self.source, "-B", self.build, "-DCMAKE_BUILD_TYPE=Release",
                  "-DCMAKE_CXX_FLAGS_RELEASE=" + flags, "-DBATCHNORM_BUILD_TESTS=ON", "-DBATCHNORM_BUILD_EXAMPLES=OFF",
                  "-DBATCHNORM_BUILD_BENCHMARKS=OFF", "-DBATCHNORM_TEST_PACKAGING=OFF"], check=True)

    def run(self, command, timeout=900, check=False, environment=None):
        """The exit status and the output; status None where it took too long."""
        # Mutants loop for ever and ask for all memory: 8 GiB are enough.
        limited = ["bash", "-c", 'ulimit -v 8388608; exec "$@"', "bash"] + command
        try:
            done = subprocess.run(limited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                                  cwd=self.source, env={**os.environ, **(environment or {})})
        except subprocess.TimeoutExpired:
            return None, "took too long"
        output = done.stdout.decode(errors="replace")
        if check and done.returncode != 0:
            sys.exit(output)
        return done.returncode, output

    def compile(self, targets):
        return self.run(["cmake", "--build", self.build, "-j", self.jobs, "--target"] + targets)

    def judge_mutant(self, path, number, text):
        """The verdict on one line replaced, and what it was."""
        target = os.path.join(self.source, path)
        with open(target) as f:
            original = f.read()
        lines = original.split("\n")
        before, lines[number] = lines[number], text
        with open(target, "w") as f:
            f.write("\n".join(lines))
        verdict = self.judge()
        with open(target, "w") as f:
            f.write(original)
        return verdict, before

    def judge(self):
        """None if the tests pass, "" if they do not compile, else what noticed."""
        for targets in STAGES:
            status, output = self.compile(targets)
            if status != 0:
                # A static_assert of the library or an error in it: stillborn.
                return "" if targets == STAGES[0] else "the compiler, in " + " ".join(targets)
            noticed = self.first_failure(targets, "~[large]")
            if noticed:
                return noticed
        noticed = self.first_failure(sum(STAGES, []), "[large]")
        if noticed:
            return noticed
        status, output = self.run(["ctest", "--test-dir", self.build, "-j", self.jobs, "-R",
                                   "compile_fail|without exceptions|plain loops", "--output-on-failure"])
        if status != 0:
            return "ctest: " + "".join(re.findall(r"\d+ - (.*) \(", output)[:1])
        status, output = self.compile(EXACTNESS)
        if status != 0:
            return "the compiler, in " + " ".join(EXACTNESS)
        for isa in ("avx512", "avx2", "baseline"):
            noticed = self.first_failure(["exactness/" + name for name in EXACTNESS], "", isa)
            if noticed:
                return noticed + " at " + isa
        return None

    def first_failure(self, targets, selection, isa="avx512"):
        for target in targets:
            if target in ("no_exceptions", "portable_test"):  # ctest runs them
                continue
            status, output = self.run([os.path.join(self.build, "tests", target), "--abort"] + [selection] * bool(selection),
                                      timeout=300, environment={"BATCHNORM_MAX_ISA": isa})
            if status != 0 and "No test cases matched" not in output:
                lines = output.split("\n")
                named = [lines[i + 1] for i, text in enumerate(lines[:-1]) if re.match("-{70}", text)]
                return target + ": " + (named[0].strip() if named else "status %s" % status)
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="a regular expression for the paths to change")
    parser.add_argument("--allowed", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--flags", default="-O1", help="of the compiler")
    parser.add_argument("--list", action="store_true", help="show the mutants and stop")
    options = parser.parse_args()

    # One change a line, kinds in turn, so that operators, constants, indices and bounds all come up.
    by_kind = {}
    sites = all_sites(options.only)
    random.Random(options.seed).shuffle(sites)
    seen = set()
    for site in sites:
        if site[:1] + site[2:3] not in seen:
            seen.add(site[:1] + site[2:3])
            by_kind.setdefault(site[1], []).append(site)
    kinds, queue = sorted(by_kind), []
    while any(by_kind.values()):
        queue += [by_kind[kind].pop() for kind in kinds if by_kind[kind]]
    if options.list:
        for path, kind, number, text in queue[:options.count]:
            print("%s:%d (%s): %s" % (path, number + 1, kind, text.strip()))
        return

    caught, unnoticed, stillborn, begun = 0, [], 0, 0
    lock = threading.Lock()

    def work(checkout):
        nonlocal caught, stillborn, begun
        while True:
            with lock:
                if begun == options.count or not queue:
                    return
                begun += 1
                path, kind, number, text = queue.pop(0)
            start = time.time()
            verdict, before = checkout.judge_mutant(path, number, text)
            with lock:
                if verdict == "":
                    stillborn += 1
                    begun -= 1
                    continue
                if verdict is None:
                    unnoticed.append((path, number, before, text))
                else:
                    caught += 1
                print("%2d. %s:%d (%s)\n    - %s\n    + %s\n    %s (%.0f s)" %
                      (caught + len(unnoticed), path, number + 1, kind, before.strip(), text.strip(),
                       "UNNOTICED" if verdict is None else "caught by " + verdict, time.time() - start), flush=True)

    with tempfile.TemporaryDirectory(prefix="batchnorm-mutants-") as folder:
        checkouts = [Checkout(os.path.join(folder, str(i)), options.flags) for i in range(options.jobs)]
        print("unchanged: building and running the tests", flush=True)
        checkouts[0].jobs = str(options.jobs)
        verdict = checkouts[0].judge()
        if verdict is not None:
            sys.exit("the tests fail without any change: " + (verdict or "they do not compile"))
        checkouts[0].jobs = "1"
        workers = [threading.Thread(target=work, args=(checkout,)) for checkout in checkouts]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    print("\n%d of %d caught, %d unnoticed (%d more did not compile)" %
          (caught, caught + len(unnoticed), len(unnoticed), stillborn))
    for path, number, before, text in unnoticed:
        print("%s:%d\n    - %s\n    + %s" % (path, number + 1, before.strip(), text.strip()))
    sys.exit(0 if len(unnoticed) <= options.allowed else 1)


if __name__ == "__main__":
    main()
