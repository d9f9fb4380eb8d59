"""A pytest plugin of `make test-all`: what fails is run again, after the tests that went before it in its process, and
alone. What passes both ways is flaky, which is told at the end, and isn't a failure while there are at most two.
Where the two differ, it depends on the order of tests: a failure, which is told too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

MOST_FLAKY = 2
MOST_RERUN = 10  # more failures have another cause than chance
FLAKY = Path("build/flaky.txt")  # of all runs of `make test-all`, which removes it first


class Reruns:
    """Of the process that prints the report, which hears of the tests of every worker in their order."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = defaultdict(list)  # of each process, in order
        self.failed: dict[str, tuple[str, int]] = {}  # a test: its process, and the number of its tests so far
        self.lines: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        process = report.node.gateway.id if hasattr(report, "node") else "main"
        if report.nodeid not in self.tests[process][-1:]:
            self.tests[process].append(report.nodeid)
        if report.failed:
            self.failed[report.nodeid] = (process, len(self.tests[process]))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus != pytest.ExitCode.TESTS_FAILED or len(self.failed) > MOST_RERUN:
            return
        root, file = session.config.rootpath, session.config.rootpath / FLAKY
        last = dict(sorted(self.failed.values()))  # of each process
        again = set().union(*(failing(self.tests[process][:number], root) for process, number in last.items()))
        after = again & self.failed.keys()
        alone = {test for test in self.failed if failing([test], root)}
        flaky = self.failed.keys() - after - alone
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as stream:
            stream.writelines(f"flaky: {test}\n" for test in sorted(flaky))
        if flaky == self.failed.keys() and len(file.read_text().splitlines()) <= MOST_FLAKY:
            session.exitstatus = pytest.ExitCode.OK
        for tests, when in ((after - alone, "after the tests before it"), (alone - after, "alone")):
            self.lines += [f"depends on order: {test} fails only {when}" for test in sorted(tests)]
        stats = session.config.pluginmanager.get_plugin("terminalreporter").stats
        for kind in ("failed", "error"):
            reports = stats.pop(kind, [])
            stats.setdefault("flaky", []).extend(report for report in reports if report.nodeid in flaky)
            stats[kind] = [report for report in reports if report.nodeid not in flaky]

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        for report in terminalreporter.stats.get("flaky", []):
            terminalreporter.write_line(f"{report.nodeid} failed once:\n{report.longreprtext}")
        file = config.rootpath / FLAKY
        for line in [*(file.read_text().splitlines() if file.exists() else []), *self.lines]:
            terminalreporter.write_line(line, red=True)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # which xdist's workers have
        config.pluginmanager.register(Reruns())


def failing(tests: Sequence[str], root: Path) -> set[str]:
    """Those that fail when they run in this order in one process; all, where it ends before its report."""
    with TemporaryDirectory() as folder:
        listed, failed = Path(folder, "tests.txt"), Path(folder, "v/cache/lastfailed")
        listed.write_text("\n".join(tests))
        options = ("-p", "no:xdist", "-m", "", "-o", f"cache_dir={folder}", f"@{listed}")
        command = [sys.executable, "-m", "pytest", *options]
        if subprocess.run(command, cwd=root, stdout=subprocess.DEVNULL, check=False).returncode == 0:
            return set()
        return set(json.loads(failed.read_text())) if failed.exists() else set(tests)
