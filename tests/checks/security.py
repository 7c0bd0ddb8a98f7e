"""Checks that each test which docs/security.md names exists, and that each part of the page names one.

A name in the column `Shown by` of a table is that of a test or, with a slash in it, of a check in this repository.
"""

import pathlib
import re
import sys

PAGE = pathlib.Path("docs/security.md")
TESTED = ["tests/tests", "tests/src", "cmd", "proxy/src", "store/src"]
TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]\s*((?:#\[[^\]]*\]\s*|//[^\n]*\s*)*)(?:pub )?(?:async )?fn (\w+)")


def tests_below(roots):
    """The names of all tests that run."""
    paths = [path for root in roots for path in pathlib.Path(root).rglob("*.rs")]
    found = [test for path in paths for test in TEST.findall(path.read_text())]
    return {name for attributes, name in found if "#[ignore" not in attributes}


def rows_of(text):
    """Of each table whose last column is `Shown by`: the line number, and the last cell of each row."""
    in_table = False
    for number, line in enumerate(text.splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if not cells:
            in_table = False
        elif cells[-1] == "Shown by":
            in_table = True
        elif in_table and not set(line) <= set("|- "):
            yield number, cells[-1]


def main():
    tests = tests_below(TESTED)
    faults, named = [], 0
    for number, proof in rows_of(PAGE.read_text()):
        names = re.findall(r"`([^`]+)`", proof)
        if not names:
            faults.append(f"{PAGE}:{number} names no test")
        for name in names:
            named += 1
            exists = pathlib.Path(name.split()[0]).exists() if "/" in name else name in tests
            if not exists:
                faults.append(f"{PAGE}:{number} names `{name}`, which is no test")
    if not tests or not named:
        sys.exit("found no tests, or none on the page: the check itself is broken")
    print(f"{named} proofs on {PAGE} exist")
    if faults:
        sys.exit("\n".join(faults))


main()
