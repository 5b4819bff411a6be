"""Runs a page's program and compares what it prints with what the page says it prints.

    run_page.py PROGRAM PAGE.md

That is the page's block of the language `text`, if there is one. Words have to be the same; a number may be off by
TOLERANCE, since the last digit of a sum, which differs from one processor to the next, may move a sample to another class.
"""

import pathlib
import re
import subprocess
import sys

TOLERANCE = 3.0
NUMBER = r"(?<![\w.])-?\d+\.\d+(?![\w.])"  # with digits behind the point; a whole number is a word


def main():
    program, page = sys.argv[1:]
    printed = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    blocks = re.findall(r"^```text\n(.*?)^```$", pathlib.Path(page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if not blocks:
        return
    said = "".join(blocks)
    same = re.sub(NUMBER, "#", printed) == re.sub(NUMBER, "#", said) and all(
        abs(float(a) - float(b)) <= TOLERANCE for a, b in zip(re.findall(NUMBER, printed), re.findall(NUMBER, said))
    )
    if not same:
        sys.exit(f"{page} says that its program prints\n{said}\nand it prints\n{printed}")


if __name__ == "__main__":
    main()
