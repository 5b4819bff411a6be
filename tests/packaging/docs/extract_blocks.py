"""Makes a program of a page's C++ code blocks, so that what the page says compiles and runs.

    extract_blocks.py PAGE.md OUTPUT.cpp

Where the last block has a main(), the blocks are one program, told in parts, and stand one after another. Otherwise each is
a part of its own: a block with a main(), which returns nothing, keeps to a namespace; every other one becomes the body of a
function, after its #include and #define lines and its structs. The program's main() calls them in turn.
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
    has_main = [bool(re.search(r"^int main\(", block, re.MULTILINE)) for block in blocks]

    if has_main[-1]:
        if sum(has_main) > 1:
            sys.exit(f"{page}: a program that is told in parts has one main()")
        code = "\n".join(blocks)
    else:
        includes, functions = [], []
        for number, (block, is_program) in enumerate(zip(blocks, has_main), 1):
            directive = r"#(include|define) "
            includes += [line for line in block.splitlines() if re.match(directive, line)]
            block = re.sub(rf"^{directive}.*\n", "", block, flags=re.MULTILINE)
            if is_program:
                block = re.sub(r"^int main\(\)", "static void main_of_it()", block, flags=re.MULTILINE)
                functions.append(f"namespace program_{number} {{\n{block}}}\n")
                functions.append(f"static void block_{number}() {{ program_{number}::main_of_it(); }}\n")
                continue
            struct = r"^(?:template <.*>\n)?struct .*?^};\n"
            functions += re.findall(struct, block, re.MULTILINE | re.DOTALL)
            lines = re.sub(struct, "", block, flags=re.MULTILINE | re.DOTALL).splitlines()
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
