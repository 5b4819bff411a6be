"""Looks at the disassembly of units compiled for different processors: does any run the instructions of another's?

    units_apart.py OBJDUMP BASE.o OTHER.o...

A function that several units define is kept once by the linker, in whichever unit's form. So

1. the base unit and another must not define the same function of batchnorm's, or one of Eigen's or the standard
   library's over batchnorm's types;
2. in the base unit, instructions beyond the base (VEX and EVEX encoded ones) stand only in the functions that are
   entered after a look at the processor.
"""

import re
import subprocess
import sys

# The functions that carry a target of their own, entered by run_kernel alone, and those rare paths of theirs that are
# compiled apart, of packs that fuse.
GUARDED = re.compile(r"\brun_(avx2|avx512)<|by_channel<.*Pack<float, \d+, true>")
# An instruction that an SSE2 processor lacks: its registers or its VEX spelling tell.
BEYOND_BASE = re.compile(r"%[yz]mm\d|%xmm(1[6-9]|2\d|3[01])\b|%k[0-7]\b|^v[a-z]")


def demangle(names):
    run = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def functions(objdump, path):
    """The functions an object defines: mangled name -> (readable name, instructions)."""

    def disassemble(*options):
        text = subprocess.run(
            [objdump, "-d", "--no-show-raw-insn", *options, path], check=True, capture_output=True, text=True
        ).stdout
        found = {}
        for line in text.splitlines():
            head = re.match(r"[0-9a-f]+ <(.*)>:$", line)
            if head:
                body = found.setdefault(head.group(1), [])
            elif re.match(r"\s+[0-9a-f]+:\t", line):
                body.append(line.split("\t", 1)[1].strip())
        return found

    plain = disassemble()
    return {mangled: (name, plain[mangled]) for mangled, name in zip(plain, demangle(plain))}


def weak(objdump, path):
    """The mangled names of which the linker keeps one copy for all units."""
    text = subprocess.run([objdump, "-t", path], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in text.splitlines() if re.match(r"[0-9a-f]+\s+[wu]\s.*\s\.text\.", line)}


def beyond_base(instructions):
    return [one for one in instructions if BEYOND_BASE.search(one)]


def main():
    objdump, base_path, *others = sys.argv[1:]
    base, base_weak = functions(objdump, base_path), weak(objdump, base_path)
    failures, seen_guarded, shared_elsewhere = [], 0, set()

    for name, instructions in base.values():
        found = beyond_base(instructions)
        if GUARDED.search(name):
            seen_guarded += bool(found)
        elif found:
            failures.append(f"the base unit's {name} has instructions like: {found[0]}")
    ours = sum("batchnorm::" in name for name, _ in base.values())
    if ours == 0 or seen_guarded == 0:
        failures.append(f"nothing was looked at: {ours} functions of batchnorm, {seen_guarded} for other processors")

    for path in others:
        other = functions(objdump, path)
        if not any(beyond_base(instructions) for _, instructions in other.values()):
            failures.append(f"{path} has no instruction beyond the base, so it shows nothing")
        shared = sorted(base_weak & weak(objdump, path))
        for mangled, name in zip(shared, demangle(shared)):
            # Of two names for the same code the disassembly shows one.
            instructions = other[mangled][1] if mangled in other else []
            if "9batchnorm" in mangled:
                failures.append(f"the base unit and {path} both define {name}")
            elif beyond_base(instructions):
                shared_elsewhere.add(name)

    print(f"{len(base)} functions in the base unit, {ours} of batchnorm, {seen_guarded} entered by processor")
    if shared_elsewhere:
        print("not ours, but shared with a unit whose copy needs more than the base:")
        print("".join(f"  {name}\n" for name in sorted(shared_elsewhere)))
    for failure in failures:
        print("FAILED:", failure)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
