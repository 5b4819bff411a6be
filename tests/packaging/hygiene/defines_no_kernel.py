"""Looks at an object that leaves the kernels to another unit: does it use them, and define none?

    defines_no_kernel.py NM OBJECT
"""

import re
import subprocess
import sys


def main():
    nm, path = sys.argv[1:]
    symbols = subprocess.run([nm, "-C", path], check=True, capture_output=True, text=True).stdout.splitlines()
    kernels = [line for line in symbols if re.search(r"\brun_(baseline|avx2|avx512)<", line)]
    defined = [line for line in kernels if " U " not in line]
    print(f"{len(kernels)} kernels are used, {len(defined)} of them defined here")
    print("".join(f"  {line}\n" for line in defined), end="")
    return 1 if defined or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
