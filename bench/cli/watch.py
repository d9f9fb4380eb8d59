"""`axiom-bench report --watch`: the report of a run that goes on, written again as records come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench import report
from axiom_bench.cli import stopping
from axiom_bench.cli.report import prepared
from axiom_bench.cli.terminal import say_line
from axiom_bench.errors import BenchError
from axiom_bench.records import reading, remote, running

PAUSE = 2.0  # seconds between two looks at the folder
SHARE = 4  # drawing takes at most one part in so many of the time, since the run needs the cores
RELOAD = 10  # seconds after which the page loads itself again


def watch(
    folders: Sequence[Path], words: Sequence[str], output: Path | None, say: Callable[[str], None] = say_line
) -> int:
    """Follows one run until its command has ended, or is stopped: the exit code.

    say: is told what is new. Raises BenchError for several runs, and as `prepared`.
    """
    if len(folders) != 1 or output is not None or remote.url_of(folders[0]) is not None:
        raise BenchError("--watch follows one run of this machine, in its own folder: axiom-bench report --watch RUN.")
    folder, settings = prepared(folders, words, output)
    try:
        _follow(folder, settings, say)
    except KeyboardInterrupt as stop:
        say("stopped watching; the run goes on, and writes its report when it ends.")
        return stopping.exit_code(stop)
    return 0


def _follow(folder: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> None:
    told: list[str] = []
    while True:
        manifest = reading.read_manifest(folder)
        sentences = running.sentences(manifest)
        is_running = manifest.get("state") == running.RUNNING
        start = time.monotonic()
        page = report.write(folder, settings, RELOAD if is_running else None)
        if sentences != told or not is_running:
            for line in [*sentences, f"report: {page}"]:
                say(line)
        told = sentences
        if not is_running:
            return
        _wait(folder, (SHARE - 1) * (time.monotonic() - start))


def _wait(folder: Path, seconds: float) -> None:
    """At least PAUSE, and these seconds unless the run ends meanwhile."""
    until = time.monotonic() + seconds
    time.sleep(PAUSE)
    while time.monotonic() < until and running.goes_on(folder):
        time.sleep(PAUSE)
