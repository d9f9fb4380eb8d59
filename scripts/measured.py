"""Which measured tables of README.md and docs/ are older than the code that they measure, from the comment above them:

    <!-- measured: 1f45447f 2026-11-23 methods metrics/box_iou.py -->

The commit and the day of the measurement, and the files and folders that decide the numbers. A comment holds for the
tables below it, up to the next one. `write_docs.py --check` prints what `problems` and `outdated` find.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path

COMMENT = re.compile(r"<!-- measured: (?P<commit>[0-9a-f]{7,40}) (?P<day>\d{4}-\d\d-\d\d) (?P<code>[\w./ -]+) -->")
REQUIRED = ("README.md", "docs/findings.md", "docs/which-metric.md")  # beside docs/studies


def problems(root: Path) -> Iterator[str]:
    """A sentence for each comment that is wrong, and for each page that needs one and has none."""
    found = list(_comments(root))
    yield from (f"{place}: {problem}" for _, place, line in found for problem in _wrong(root, line))
    studies = [path.relative_to(root).as_posix() for path in sorted((root / "docs/studies").glob("*.md"))]
    for page in {*REQUIRED, *studies} - {page for page, _, _ in found}:
        yield f"{page}: give '<!-- measured: COMMIT DAY CODE -->' above a measured table (scripts/measured.py)"


def _comments(root: Path) -> Iterator[tuple[str, str, str]]:
    """The page, the page with the line's number, and the line."""
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        page = path.relative_to(root).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "<!-- measured" in line:
                yield page, f"{page}:{number}", line


def _wrong(root: Path, line: str) -> Iterator[str]:
    match = COMMENT.fullmatch(line)
    if match is None:
        yield "write '<!-- measured: COMMIT YYYY-MM-DD CODE -->', CODE being files or folders"
        return
    try:
        date.fromisoformat(match["day"])
    except ValueError:
        yield f"{match['day']} is no day"
    yield from (f"there is no {path}" for path in match["code"].split() if not (root / path).exists())
    if _has_history(root) and _git(root, "cat-file", "-t", match["commit"]) != "commit\n":
        yield f"there is no commit {match['commit']}"


def outdated(root: Path) -> Iterator[str]:
    """A line for each measurement whose code has changed since; without the history one that says so."""
    if not _has_history(root):
        yield "Without git and its whole history, what is older than its code can't be told."
        return
    for _, place, line in _comments(root):
        if match := COMMENT.fullmatch(line):
            since = _git(root, "log", "--format=%cs", f"{match['commit']}..HEAD", "--", *match["code"].split())
            if days := (since or "").split():
                changes = f"{len(days)} commits to {match['code']} since, the last {days[0]}"
                yield f"{place}: measured {match['day']}, {changes}"


def _has_history(root: Path) -> bool:
    return _git(root, "rev-parse", "--is-shallow-repository") == "false\n"


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where it fails, isn't there, or knows another folder only, as of an unpacked sdist."""
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return None if done.returncode else done.stdout
