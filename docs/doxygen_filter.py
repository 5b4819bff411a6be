"""Shows Doxygen a file as its readers should see it.

    doxygen_filter.py FILE

Of a page: GitHub makes an anchor of each heading, and links on the pages go by these; Doxygen is told of them. Of a header:
constraints on template parameters, which say nothing to a reader that the comment does not, are left out.
"""

import pathlib
import re
import sys


def anchor(page, heading):
    """The anchor that GitHub gives a heading, which Doxygen wants to be different on each page."""
    return page + "-" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page(path, text):
    parts = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    for i in range(0, len(parts), 2):  # what is not a code block
        parts[i] = re.sub(
            r"^(#{2,} )(.*)$", lambda m: f"{m[1]}{m[2]} {{#{anchor(path.stem, m[2])}}}", parts[i], flags=re.MULTILINE
        )
        parts[i] = re.sub(r"\]\(([\w-]*)(?:\.md)?#([\w-]+)\)", lambda m: f"](@ref {m[1] or path.stem}-{m[2]})", parts[i])
    return "".join(parts)


def header(text):
    constraint = r",\s*std::enable_if_t<[^;{}]*?, int> = 0(?=>)"
    return re.sub(constraint, lambda m: "\n" * m[0].count("\n"), text)


def main():
    path = pathlib.Path(sys.argv[1])
    text = path.read_text(encoding="utf-8")
    sys.stdout.reconfigure(encoding="utf-8")
    sys.stdout.write(page(path, text) if path.suffix == ".md" else header(text))


if __name__ == "__main__":
    main()
