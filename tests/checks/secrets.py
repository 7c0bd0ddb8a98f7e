"""Looks for every secret of a run of the tests in every log line, error and page of metrics of that run.

    python3 tests/checks/secrets.py DIRECTORY [--of-a-part]

What the directory holds is collected by tests/src/secrets.rs. A secret that is found anywhere is a failure; so is a run
without logs or secrets, unless it was of a part of the tests alone, and a search that does not find what is planted.
"""

import pathlib
import subprocess
import sys
import tempfile
from urllib.parse import quote

KINDS = ["logs", "errors", "metrics"]


def spellings(secret):
    """As it is, and as it stands in a URL."""
    return {secret, quote(secret, safe="")}


def hits(patterns, places):
    """The lines that hold one of the patterns, with the file and the pattern."""
    places = [str(place) for place in places if place.exists()]
    if not places:
        return []
    command = ["grep", "-rnoaF", "-f", str(patterns), *places]
    search = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if search.returncode > 1:
        sys.exit(f"the search failed: {search.stderr}")
    return search.stdout.splitlines()


def proves_to_find(patterns, secrets, log):
    """Plants a secret at the end of a copy of a log, in each spelling, and expects to find it there."""
    with tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory) / "copy.log"
        before = log.read_text(errors="replace") if log else ""
        for secret in (secrets[0], secrets[-1]):
            for spelling in spellings(secret):
                copy.write_text(f"{before}\nDEBUG request: something={spelling} else\n")
                if not any(hit.endswith(f":{spelling}") for hit in hits(patterns, [copy])):
                    sys.exit(f"the search does not find what was planted: {spelling}")


def main():
    directory, of_a_part = pathlib.Path(sys.argv[1]), "--of-a-part" in sys.argv[2:]
    written = directory / "secrets"
    secrets = sorted(set(written.read_text().split("\n")) - {""}) if written.exists() else []
    files = {kind: [path for path in (directory / kind).rglob("*") if path.is_file()] for kind in KINDS}
    logs = [path for path in files["logs"] if path.stat().st_size > 0]
    size = sum(path.stat().st_size for paths in files.values() for path in paths)
    counts = ", ".join(f"{len(paths)} of {kind}" for kind, paths in files.items())
    print(f"{len(secrets)} secrets; files: {counts}; {size / 1e6:.1f} MB")
    if not (secrets and logs):
        if of_a_part:
            return
        sys.exit("no secrets or no logs were collected: the check itself is broken")
    patterns = directory / "patterns"
    patterns.write_text("".join(f"{spelling}\n" for secret in secrets for spelling in sorted(spellings(secret))))
    proves_to_find(patterns, secrets, logs[0])
    found = hits(patterns, [directory / kind for kind in KINDS])
    if found:
        sys.exit("secrets are told:\n" + "\n".join(found[:50]) + f"\n{len(found)} in all")
    print("none of the secrets is told anywhere")


main()
