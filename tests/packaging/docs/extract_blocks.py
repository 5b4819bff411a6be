"""Makes a program of a page's C++ code blocks, so that what the page says compiles and runs.

    extract_blocks.py PAGE.md OUTPUT.cpp

A block with its own main() becomes the program; every other block becomes the body of a function of its own, after
its #include and #define lines and its structs, and the program's main() calls them in turn.
"""

import pathlib
import re
import sys

HEAD = """// Made from the code blocks of {page} by extract_blocks.py.

#define EIGEN_USE_THREADS
#include <batchnorm/batchnorm.hpp>
"""


def main():
    page, output = (pathlib.Path(argument) for argument in sys.argv[1:])
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```cpp\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    programs = [block for block in blocks if re.search(r"^int main\(", block, re.MULTILINE)]
    snippets = [block for block in blocks if block not in programs]
    if programs and snippets or len(programs) > 1:
        sys.exit(f"{page}: a page has either one whole program or snippets")

    if programs:
        code = programs[0]
    else:
        includes, functions = [], []
        for number, block in enumerate(snippets, 1):
            struct = r"^struct .*?^};\n"
            functions += re.findall(struct, block, re.MULTILINE | re.DOTALL)
            lines = re.sub(struct, "", block, flags=re.MULTILINE | re.DOTALL).splitlines()
            includes += [line for line in lines if re.match(r"#(include|define) ", line)]
            body = "\n".join("  " + line if line else "" for line in lines if not re.match(r"#(include|define) ", line))
            functions.append(f"static void block_{number}() {{\n{body}\n}}\n")
        calls = "\n".join(f"  block_{number}();" for number in range(1, len(snippets) + 1))
        head = HEAD.format(page=page.name) + "\n".join(
            line for line in dict.fromkeys(includes) if line not in HEAD.splitlines()
        )
        code = "\n".join([head, *functions, f"int main() {{\n{calls}\n}}\n"])
    if not output.exists() or output.read_text(encoding="utf-8") != code:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(code, encoding="utf-8")


if __name__ == "__main__":
    main()
