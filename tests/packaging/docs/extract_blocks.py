"""Makes a program of a page's C++ code blocks, so that what the page says compiles and runs.

    extract_blocks.py PAGE.md OUTPUT.cpp

A block with its own main() becomes the program, if it is alone. Otherwise its main() becomes a function of another name, and
every other block the body of a function of its own, after its #include and #define lines and its structs; the program's
main() calls them in turn.
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
    is_program = re.compile(r"^int main\(", re.MULTILINE)
    if len(blocks) == 1 and is_program.search(blocks[0]):
        code = blocks[0]
    else:
        includes, functions = [], []
        for number, block in enumerate(blocks, 1):
            struct = r"^struct .*?^};\n"
            whole = is_program.search(block)
            if not whole:
                functions += re.findall(struct, block, re.MULTILINE | re.DOTALL)
                block = re.sub(struct, "", block, flags=re.MULTILINE | re.DOTALL)
            lines = block.splitlines()
            includes += [line for line in lines if re.match(r"#(include|define) ", line)]
            lines = [line for line in lines if not re.match(r"#(include|define) ", line)]
            if whole:
                functions.append(is_program.sub(f"static int block_{number}(", "\n".join(lines)) + "\n")
                functions[-1] = re.sub(r"\n}\n*$", "\n  return 0;\n}\n", functions[-1])
            else:
                body = "\n".join("  " + line if line else "" for line in lines)
                functions.append(f"static void block_{number}() {{\n{body}\n}}\n")
        calls = "\n".join(f"  block_{number}();" for number in range(1, len(blocks) + 1))
        head = HEAD.format(page=page.name) + "\n".join(
            line for line in dict.fromkeys(includes) if line not in HEAD.splitlines()
        )
        code = "\n".join([head, *functions, f"int main() {{\n{calls}\n}}\n"])
    if not output.exists() or output.read_text(encoding="utf-8") != code:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(code, encoding="utf-8")


if __name__ == "__main__":
    main()
