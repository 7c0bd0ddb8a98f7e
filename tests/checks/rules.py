"""Checks docs/rules.md against the tests: every rule has a row, and every row a test or a deviation.

A test proves the rules that its name begins with: `a62_a63_…`, `c10_…`, in parts B and D with the row, `d1_11_…`, or
with a word of the name that stands behind the row's number, `b1_relations_…`. Tests without such a prefix can be listed by hand, and so
can another rule whose tests prove this one too.

    python3 tests/checks/rules.py            says what is wrong
    python3 tests/checks/rules.py --write    brings the last column up to date first; texts and deviations stay
"""

import pathlib
import re
import sys

PAGE = pathlib.Path("docs/rules.md")
DEVIATIONS = pathlib.Path("docs/deviations.md")
TESTED = ["tests/tests", "tests/src", "proxy/src", "store/src"]

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
    """The rules in front of a test's name, the sections that need a word to tell the row, and the rest."""
    rules, sections, rest = [], [], name.split("_")
    while rest and re.fullmatch(r"[a-d]\d+", rest[0]):
        head = rest.pop(0).upper()
        if head[0] in PARTS:
            rules.append(head)
        elif rest and rest[0].isdigit():
            rules.append(f"{head}.{rest.pop(0)}")
        else:
            sections.append(head)
    return rules, sections, "_".join(rest)


def row_by_word(section, rest, rows):
    """The row of a section that has the first word of the name that any has, or its only row."""
    in_section = [row for row in rows if row.rule.startswith(f"{section}.")]
    if len(in_section) == 1:
        return in_section[0].rule
    for word in rest.split("_"):
        for row in in_section:
            if word in row.words:
                return row.rule
    return None


def rules_of(name, rows):
    """The rules that a test names, and the sections in which no row could be told."""
    rules, sections, rest = split_name(name)
    found = {section: row_by_word(section, rest, rows) for section in sections}
    return rules + [rule for rule in found.values() if rule], [section for section, rule in found.items() if not rule]


class Row:
    """A line of the page."""

    def __init__(self, match):
        self.rule, words, self.text, proof = match.groups()
        self.words = words.split()
        self.deviations = re.findall(r"deviation: `([^`]+)`", proof)
        proof = re.sub(r"deviation: `[^`]+`", "", proof)
        self.tests = re.findall(r"`([^`]+)`", proof)
        self.as_rules = re.findall(r"\b[A-D]\d+(?:\.\d+)?\b", re.sub(r"`[^`]+`", "", proof))

    def __str__(self):
        proof = [f"`{test}`" for test in self.tests]
        proof += self.as_rules
        proof += [f"deviation: `{quoted}`" for quoted in self.deviations]
        number = " ".join([self.rule, *self.words])
        return f"| {number} | {self.text} | {', '.join(proof) or NOT_YET} |"

    def has_proof(self):
        return bool(self.tests or self.as_rules or self.deviations)

    def bring_up_to_date(self, named, tests, renamed, deviations):
        """Lists the tests whose names say so, and keeps those listed by hand, even one that is gone: that is for the check to say."""
        kept = list(named)
        for name in self.tests:
            # A test that has got a number since, or another one, is still the same test.
            rest = split_name(name)[2]
            now = name if name in tests else renamed.get(rest, name if rest == name else None)
            if now is not None and now not in kept:
                kept.append(now)
        self.tests = kept
        # A deviation that is no more need not be told where a test says what is true instead.
        if self.tests:
            self.deviations = [quoted for quoted in self.deviations if quoted in deviations]


def bring_up_to_date(rows, tests):
    renamed = {split_name(name)[2]: name for name in sorted(tests)}
    named = {row.rule: [] for row in rows}
    for name in sorted(tests, key=lambda name: (split_name(name)[2], name)):
        for rule in rules_of(name, rows)[0]:
            named.get(rule, []).append(name)
    for row in rows:
        row.bring_up_to_date(named[row.rule], tests, renamed, deviations_text())


def faults_of(rows, tests):
    by_rule = {row.rule: row for row in rows}
    faults = [f"{rule} has no row" for rule in RULES if rule not in by_rule]
    faults += [f"{rule} is no rule that is known here" for rule in by_rule if rule not in RULES]
    if len(by_rule) != len(rows):
        faults.append("a rule has two rows")
    deviations = deviations_text()
    for row in rows:
        if not row.has_proof():
            faults.append(f"{row.rule} has neither a test nor a deviation: {row.text}")
        faults += [f"{row.rule} names `{name}`, which is no test" for name in row.tests if name not in tests]
        faults += [f"{row.rule} is as {rule}, which has nothing" for rule in row.as_rules if rule not in by_rule or not by_rule[rule].has_proof()]
        faults += [f"{row.rule}: `{quoted}` is not in {DEVIATIONS}" for quoted in row.deviations if quoted not in deviations]
    for name in sorted(tests):
        rules, sections = rules_of(name, rows)
        faults += [f"`{name}` names {rule}, which is no rule" for rule in rules if rule not in RULES]
        faults += [f"`{name}` is not in the row of {rule}" for rule in rules if rule in by_rule and name not in by_rule[rule].tests]
        for section in sections:
            if not any(name in row.tests for row in rows if row.rule.startswith(f"{section}.")):
                faults.append(f"`{name}` is in no row of {section}: none has a word of its name, list it by hand")
    return faults


def main():
    tests = tests_below(TESTED)
    if not tests:
        sys.exit("found no tests: the check itself is broken")
    lines = PAGE.read_text().splitlines()
    rows = {number: Row(match) for number, line in enumerate(lines) if (match := ROW.match(line))}
    if "--write" in sys.argv[1:]:
        bring_up_to_date(rows.values(), tests)
        for number, row in rows.items():
            lines[number] = str(row)
        PAGE.write_text("\n".join(lines) + "\n")
    faults = faults_of(list(rows.values()), tests)
    tested = sum(1 for row in rows.values() if row.tests or row.as_rules)
    print(f"{len(rows)} rules: {tested} have a test")
    if faults:
        sys.exit("\n".join(faults))


main()
