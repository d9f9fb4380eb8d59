"""Tests that a machine may have to skip, by group: when each last ran, and a line where that is long ago.

tests/last_runs.yaml has for each group: reason, a pattern of what its skipped tests say; tests, how the ids of tests
begin of which one that passes shows that the group can run; packages; and ran: date, commit and versions, or null.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).with_suffix(".yaml")
DAYS = 90
Groups = Mapping[str, Mapping[str, Any]]


def warnings(groups: Groups, skipped: Collection[str], today: date) -> Iterator[str]:
    """A line for each group that was skipped and hasn't run for 90 days, and for what is of no group. skipped: the
    reason of each skipped test."""
    for name, count in sorted(Counter(_group(groups, reason) or reason for reason in skipped).items()):
        ran = groups.get(name, {}).get("ran")
        if name not in groups:
            yield f"{count} skipped, of no group of tests/last_runs.yaml: {name}"
        elif ran is None:
            yield f"{count} skipped of {name}, which never ran on record: CONTRIBUTING.md"
        elif (days := (today - ran["date"]).days) > DAYS:
            yield f"{count} skipped of {name}, which last ran {days} days ago ({ran['date']}): CONTRIBUTING.md"


def updated(groups: Groups, passed: Collection[str], skipped: Collection[str], today: date, commit: str) -> Groups:
    """With the groups that ran whole: a test of theirs passed, and none was skipped. passed: ids of tests."""
    groups, missed = deepcopy(dict(groups)), {_group(groups, reason) for reason in skipped}
    for name, group in groups.items():
        if name not in missed and any(test.startswith(group["tests"]) for test in passed):
            versions = {package: version(package) for package in group["packages"]}
            ran = {"date": today.replace(), "commit": commit, "versions": versions}  # a copy, or YAML has an alias
            groups[name] = {**group, "ran": ran}
    return groups


def _group(groups: Groups, reason: str) -> str | None:
    return next((name for name, group in groups.items() if re.search(group["reason"], reason)), None)


def report(terminal: Any, write: bool) -> None:
    """Prints the warnings of a session's reports; write: first writes tests/last_runs.yaml."""
    text, today = FILE.read_text(), date.today()
    groups = yaml.safe_load(text)
    skipped = [entry.longrepr[2].removeprefix("Skipped: ") for entry in terminal.stats.get("skipped", ())]
    if write:
        passed = [entry.nodeid for entry in terminal.stats.get("passed", ())]
        commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=FILE.parent, text=True).strip()
        groups = updated(groups, passed, skipped, today, commit)
        head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        FILE.write_text(head + yaml.safe_dump(groups, sort_keys=False, default_flow_style=None, width=120))
    for line in warnings(groups, skipped, today):
        terminal.write_line(line, yellow=True)
