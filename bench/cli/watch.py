"""`axiom-bench report --watch`: the report of a run that goes on, written again as records come."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from axiom_bench import report
from axiom_bench.cli.report import prepared
from axiom_bench.errors import BenchError
from axiom_bench.records import reading, running

PAUSE = 2.0  # seconds between two looks at the folder
SHARE = 4  # drawing takes at most one part in so many of the time, since the run needs the cores
RELOAD = 10  # seconds after which the page loads itself again
INTERRUPTED = 130  # 128 + SIGINT


def watch(
    folders: Sequence[Path], words: Sequence[str], output: Path | None, say: Callable[[str], None] = print
) -> int:
    """Follows one run until its command has ended, or is stopped: the exit code.

    say: is told what is new. Raises BenchError for several runs, and as `prepared`.
    """
    if len(folders) != 1 or output is not None:
        raise BenchError("--watch follows one run, into its own folder: axiom-bench report --watch RUN.")
    folder, settings = prepared(folders, words, output)
    try:
        _follow(folder, settings, say)
    except KeyboardInterrupt:
        say("stopped watching; the run goes on, and writes its report when it ends.")
        return INTERRUPTED
    return 0


def _follow(folder: Path, settings: Mapping[str, Any], say: Callable[[str], None]) -> None:
    told: list[str] = []
    while True:
        sentences = running.sentences(manifest := reading.read_manifest(folder))
        goes_on = manifest.get("state") == running.RUNNING
        start = time.monotonic()
        page = report.write(folder, settings, RELOAD if goes_on else None)
        if sentences != told or not goes_on:
            for line in [*sentences, f"report: {page}"]:
                say(line)
        told = sentences
        if not goes_on:
            return
        time.sleep(max(PAUSE, (SHARE - 1) * (time.monotonic() - start)))
