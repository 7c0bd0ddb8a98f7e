"""Reports module sizes, and fails for a module without a `//!` or beyond reason.

We aim at a median of 200 lines and a 90th percentile of 450, tests apart; past 700 a module is split by noun.
"""

import pathlib
import statistics
import sys

LIMIT = 700
ROOTS = ["cmd/src", "proxy/src", "store/src", "tests/src", "tests/tests", "tests/benches"]


def lines_without_tests(text):
    """The number of lines before the test module, which by convention closes a file."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.strip() == "#[cfg(test)]" and number + 1 < len(lines) and lines[number + 1].lstrip().startswith("mod "):
            if lines[number + 1].rstrip().endswith("{"):
                return number
    return len(lines)


def main():
    sizes, faults = {}, []
    for root in ROOTS:
        for path in sorted(pathlib.Path(root).rglob("*.rs")):
            text = path.read_text()
            sizes[path] = lines_without_tests(text)
            if not text.startswith("//!"):
                faults.append(f"{path} does not open with `//!`: what is it for?")
            if sizes[path] > LIMIT:
                faults.append(f"{path} has {sizes[path]} lines, more than {LIMIT}: split it by noun")
    if not sizes:
        sys.exit("found no modules: the check itself is broken")
    ordered = sorted(sizes.values())
    tenth = ordered[int(len(ordered) * 0.9)]
    print(f"{len(ordered)} modules: median {statistics.median(ordered):.0f} lines, 90th percentile {tenth}, largest:")
    for path, size in sorted(sizes.items(), key=lambda item: -item[1])[:5]:
        print(f"  {size:4} {path}")
    if faults:
        sys.exit("\n".join(faults))


main()
