"""Fails if the reference client is no longer small, or needs more than Python's standard library."""

import ast
import pathlib
import sys

CLIENT = pathlib.Path("docs/reference-client/client.py")
LIMIT = 300


def imports(tree):
    """The packages that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import names no package, and so is none of the standard library.
            yield "." if node.level else node.module.partition(".")[0]


def faults(text):
    lines = text.count("\n")
    if lines >= LIMIT:
        yield f"has {lines} lines; it must stay under {LIMIT}"
    foreign = sorted(set(imports(ast.parse(text))) - sys.stdlib_module_names)
    if foreign:
        yield f"imports {', '.join(foreign)}, outside the standard library"


def main():
    broken = ["import json\n" * LIMIT, "import requests\n", "from . import other\n"]
    if not all(list(faults(text)) for text in broken):
        sys.exit("the check itself is broken")
    text = CLIENT.read_text()
    found = [f"{CLIENT} {fault}" for fault in faults(text)]
    if found:
        sys.exit("\n".join(found))
    print(f"{text.count(chr(10))} lines, standard library only")


main()
