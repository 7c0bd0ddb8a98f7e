"""Checks docs/rules.md against the tests: every rule has a row, and every row a test or a deviation.

A test proves the rules that its name begins with: `a62_a63_…`, `c10_…`, in parts B and D with the row, `d1_11_…`, or in part B
with one of the words behind the row's number, `b1_relations_…`. Tests without such a prefix can be listed by hand.

    python3 tests/checks/rules.py            says what is wrong
    python3 tests/checks/rules.py --write    brings the last column up to date first; texts and deviations stay
"""

import pathlib
import re
import sys

PAGE = pathlib.Path("docs/rules.md")
DEVIATIONS = pathlib.Path("docs/deviations.md")
# Tests whose names must keep to the rule numbers, and all that a row may list.
NUMBERED = ["tests/tests/e2e"]
TESTED = [*NUMBERED, "tests/tests", "proxy/src", "store/src"]

PARTS = {"A": 111, "C": 11}
SECTIONS = {"B1": 11, "B2": 14, "B3": 12, "D1": 16, "D2": 9, "D3": 1, "D4": 2, "D5": 17}
RULES = [f"{part}{n}" for part, count in PARTS.items() for n in range(1, count + 1)]
RULES += [f"{section}.{n}" for section, count in SECTIONS.items() for n in range(1, count + 1)]

ROW = re.compile(r"^\| ((?:[A-D]\d+)(?:\.\d+)?)((?: [a-z]+)*) \| (.+?) \| (.+) \|$")
TEST = re.compile(r"#\[(?:tokio::)?test\b[^\]]*\]\s*((?:#\[[^\]]*\]\s*|//[^\n]*\s*)*)(?:pub )?(?:async )?fn (\w+)")
NOT_YET = "not yet"


def tests_below(roots):
    """The names of all tests that run: one that is ignored proves nothing."""
    paths = [path for root in roots for path in pathlib.Path(root).rglob("*.rs")]
    found = [test for path in paths for test in TEST.findall(path.read_text())]
    return {name for attributes, name in found if "#[ignore" not in attributes}


def deviations_text():
    """The page on one line, so that a quotation may run over the end of a line."""
    return " ".join(DEVIATIONS.read_text().split())


def split_name(name):
    """The rules in front of a test's name, a section that needs a word to tell the row, and the rest."""
    rules, section, rest = [], None, name.split("_")
    while rest and re.fullmatch(r"[a-d]\d+", rest[0]):
        head = rest[0].upper()
        if head[0] in PARTS:
            rules.append(head)
            rest = rest[1:]
        elif len(rest) > 1 and rest[1].isdigit():
            rules.append(f"{head}.{rest[1]}")
            rest = rest[2:]
        else:
            section = head
            rest = rest[1:]
            break
    return rules, section, "_".join(rest)


class Row:
    """A line of the page."""

    def __init__(self, match):
        self.rule, words, self.text, proof = match.groups()
        self.words = words.split()
        self.deviations = re.findall(r"deviation: `([^`]+)`", proof)
        self.tests = re.findall(r"`([^`]+)`", re.sub(r"deviation: `[^`]+`", "", proof))

    def __str__(self):
        proof = [f"`{test}`" for test in self.tests] + [f"deviation: `{quoted}`" for quoted in self.deviations]
        number = " ".join([self.rule, *self.words])
        return f"| {number} | {self.text} | {', '.join(proof) or NOT_YET} |"

    def bring_up_to_date(self, tests, numbered, deviations):
        """Lists the tests whose names say so, keeps those listed by hand, and says what it drops."""
        before, self.tests = self.tests, brought_up_to_date(self, tests, numbered)
        kept = {split_name(name)[2] for name in self.tests}
        for name in before:
            if name not in tests and split_name(name)[2] not in kept:
                print(f"{self.rule}: `{name}` is no test any more")
        # A deviation that is no more need not be told where a test says what is true instead.
        if self.tests:
            self.deviations = [quoted for quoted in self.deviations if quoted in deviations]

    def is_named_by(self, name):
        rules, section, rest = split_name(name)
        return self.rule in rules or (
            section is not None and self.rule.startswith(f"{section}.") and rest.split("_")[0] in self.words
        )


def brought_up_to_date(row, tests, numbered):
    """The tests of a row: those whose names say so, and those that were listed by hand."""
    # A test that has got a number since, or another one, is still the same test.
    renamed = {split_name(name)[2]: name for name in sorted(numbered)}
    listed = [name if name in tests else renamed.get(split_name(name)[2], "") for name in row.tests]
    named = sorted((name for name in numbered if row.is_named_by(name)), key=lambda name: (split_name(name)[2], name))
    by_hand = [name for name in listed if name and name not in named]
    return list(dict.fromkeys(named + by_hand))


def faults_of(rows, tests, numbered):
    faults = []
    by_rule = {row.rule: row for row in rows}
    faults += [f"{rule} has no row" for rule in RULES if rule not in by_rule]
    faults += [f"{rule} is no rule that is known here" for rule in by_rule if rule not in RULES]
    if len(by_rule) != len(rows):
        faults.append("a rule has two rows")
    deviations = deviations_text()
    for row in rows:
        if not row.tests and not row.deviations:
            faults.append(f"{row.rule} has neither a test nor a deviation: {row.text}")
        faults += [f"{row.rule} names `{name}`, which is no test" for name in row.tests if name not in tests]
        faults += [f"{row.rule}: `{quoted}` is not in {DEVIATIONS}" for quoted in row.deviations if quoted not in deviations]
    for name in sorted(numbered):
        rules, section, _ = split_name(name)
        faults += [f"`{name}` names {rule}, which is no rule" for rule in rules if rule not in RULES]
        faults += [f"`{name}` is not in the row of {rule}" for rule in rules if rule in by_rule and name not in by_rule[rule].tests]
        if section and not any(name in row.tests for row in rows if row.rule.startswith(f"{section}.")):
            faults.append(f"`{name}` is in no row of {section}: none has that word, list it by hand")
    return faults


def main():
    tests, numbered = tests_below(TESTED), tests_below(NUMBERED)
    if not numbered:
        sys.exit("found no tests: the check itself is broken")
    lines, rows = PAGE.read_text().splitlines(), []
    for number, line in enumerate(lines):
        match = ROW.match(line)
        if match is None:
            continue
        row = Row(match)
        rows.append(row)
        if "--write" in sys.argv[1:]:
            row.bring_up_to_date(tests, numbered, deviations_text())
            lines[number] = str(row)
    if "--write" in sys.argv[1:]:
        PAGE.write_text("\n".join(lines) + "\n")
    faults = faults_of(rows, tests, numbered)
    proven = sum(1 for row in rows if row.tests)
    print(f"{len(rows)} rules: {proven} have a test, {sum(1 for row in rows if not row.tests and row.deviations)} are deviations")
    if faults:
        sys.exit("\n".join(faults))


main()
