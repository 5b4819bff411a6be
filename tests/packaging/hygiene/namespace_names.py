"""Compares the names of the library's inline namespace for many flags of a compiler.

    namespace_names.py INCLUDE COMPILER [OPTION...]

What tells two compilations apart is what the compiler itself says of them: the macros that it defines. Two processors for
which they differ must have different names, or the linker could hand the code for one to a program for the other; so must
strict arithmetic and any that is not, and so on. Names must be short enough for a debugger's window.
"""

import re
import subprocess
import sys

LONGEST = 80
# Where a compiler does not list what -march takes: each architecture's versions, and extensions of one of them.
ARM = ["armv8-a", "armv8.1-a", "armv8.2-a", "armv8.3-a", "armv8.4-a", "armv8.5-a", "armv8.6-a", "armv9-a"] + [
    "armv8.2-a+" + one
    for one in (
        "nofp nosimd crc crypto lse rdma fp16 fp16fml dotprod rcpc i8mm bf16 aes sha2 sha3 sm4 rng memtag tme ls64 "
        "sve sve2 sve2-aes sve2-bitperm sve2-sha3 sve2-sm4 f32mm f64mm sve+bf16 sve+i8mm sve2+bf16 mops pauth sme"
    ).split()
]
RISCV = ["rv64" + one for one in "i ima imac imaf imafc imafd imafdc gc gcv".split()] + [
    "rv64gc_" + one for one in "zba zbb zbc zbs zfh zfhmin zbkb zbkc zbkx zicond zfa v zve64d zvl256b zvfh".split()
]
# Flags that change what the same text computes.
FLAGS = [
    ["-ffast-math"],
    ["-Ofast"],
    ["-funsafe-math-optimizations"],
    ["-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math"],
    ["-freciprocal-math"],
    ["-ffinite-math-only"],
    ["-fno-signed-zeros"],
    ["-mfpmath=387"],
    ["-fno-exceptions"],
    ["-DBATCHNORM_PORTABLE"],
    ["-DEIGEN_DEFAULT_DENSE_INDEX_TYPE=int"],
    ["-DEIGEN_DEFAULT_DENSE_INDEX_TYPE=long int"],
]


class Compiler:
    def __init__(self, include, command):
        self.include, self.command = include, command

    def preprocess(self, options, text=""):
        """What it prints of a text, and whether it takes the options without a word."""
        run = subprocess.run(
            [*self.command, "-std=c++17", *options, "-E", "-P", "-x", "c++", "-"],
            input=text, capture_output=True, text=True,
        )  # fmt: skip
        return run.stdout, run.stderr, run.returncode == 0 and not run.stderr

    def macros(self, options):
        """Name -> value, or None where it does not take the options."""
        out, _, taken = self.preprocess([*options, "-dM"])
        return dict(line.split(" ", 2)[1:] for line in out.splitlines() if line.count(" ") > 1) if taken else None

    def name(self, options):
        text = '#include "batchnorm/detail/interface/abi.hpp"\nNAME BATCHNORM_ABI\n'
        out, err, _ = self.preprocess(["-I" + self.include, *options], text)
        found = re.search(r"^NAME (\S.*)$", out, re.MULTILINE)
        return found.group(1) if found else f"({err.strip()})"

    def processors(self):
        """What -march takes."""
        macros = self.macros([])
        if "__riscv" in macros:
            return RISCV
        if "__aarch64__" in macros:
            return ARM
        _, err, _ = self.preprocess(["-march=none-of-these"])
        listed = re.search(r"valid (?:arguments to .-march=. switch|target CPU values) are: ([^;\n]*)", err)
        return re.split(r"[ ,]+", listed.group(1).strip()) if listed else []


def describing(macros):
    """Those that tell of instructions, not of a processor's name or of how code is tuned: on x86 these are lower case.

    GCC gives a RISC-V extension that it does not know the version 0.
    """
    if "__x86_64__" not in macros:
        return {name: value for name, value in macros.items() if not (name.startswith("__riscv_z") and value == "0")}
    return {name: value for name, value in macros.items() if not re.match(r"__(tune_)?[a-z]\w*$", name)}


def main():
    include, *command = sys.argv[1:]
    compiler = Compiler(include, command)
    tuned = ["-mtune=generic"] if "__x86_64__" in compiler.macros([]) else []
    failures, seen = [], {}

    processors = compiler.processors()
    for processor in processors:
        options = ["-march=" + processor, *tuned]
        macros = compiler.macros(options)
        if macros is None:  # of 32 bits, or of a newer compiler
            continue
        name = compiler.name(options)
        if not re.fullmatch(r"v\w+", name) or len(name) > LONGEST:
            failures.append(f"the name for {processor} is no identifier of at most {LONGEST} letters: {name}")
        these = describing(macros)
        other, those = seen.setdefault(name, (processor, these))
        differ = sorted(macro for macro in {*these, *those} if these.get(macro) != those.get(macro))
        if differ:
            failures.append(f"{other} and {processor} are both {name}, but differ in {', '.join(differ)}")
    if len(seen) < 8:
        failures.append(f"nothing was looked at: {len(seen)} different names of {len(processors)} processors")

    plain, plain_name, flags_seen = compiler.macros([]), compiler.name([]), 0
    for flags in FLAGS:
        macros = compiler.macros(flags)
        if macros is None or macros == plain:  # of another compiler, or one of which this compiler does not tell
            continue
        flags_seen += 1
        if compiler.name(flags) == plain_name:
            failures.append(f"{' '.join(flags)} has the same name as without, {plain_name}")
    if flags_seen < 5:
        failures.append(f"nothing was looked at: {flags_seen} flags of which the compiler tells")

    # Clang can take arguments of macros as MSVC's traditional preprocessor does.
    as_msvc = ["-fms-compatibility"]
    if compiler.macros(as_msvc) and compiler.name(as_msvc) != plain_name:
        failures.append(f"to MSVC's preprocessor the name is {compiler.name(as_msvc)}, not {plain_name}")

    print(f"{len(seen)} names of {len(processors)} processors, {flags_seen} flags; without any {plain_name}")
    print("the longest:", max(seen, key=len, default=""))
    for failure in failures:
        print("FAILED:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
