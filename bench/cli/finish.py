"""The end of a run: manifest, report, and the last lines of the output."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench import report
from axiom_bench.columns import UNKNOWN_CLASS
from axiom_bench.environment import seldom_collected
from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import mirror, remote, running
from axiom_bench.report import stamp
from axiom_bench.run import manifest, sweep
from axiom_bench.run.composing.settings import return_freed_memory
from axiom_bench.run.manifest import Failure, Outcome
from axiom_bench.run.progress import progress
from axiom_bench.run.tasks import run_folder
from axiom_bench.statistics.run_folder import RunFolder

MAX_NAMES = 5  # bad images that are named
MENDABLE, DEFECT = 2, 1  # exit codes: a mistake that the user can mend; a defect of this program


def finish(
    config: dict[str, Any], outcomes: Sequence[Outcome], overrides: Sequence[str] = (), verbose: bool = False
) -> tuple[int, list[str]]:
    """Writes the manifest and the report of a sweep; its exit code and its last lines. overrides: as they were typed.
    verbose: with statuses and the time of each stage, which the page and the manifest have too. Raises BenchError."""
    folder = run_folder(config)
    with progress("report") as shown:
        completed = [outcome for outcome in outcomes if outcome.failure is None]
        lines = [f"{outcome.job}: {note}" for outcome in outcomes for note in outcome.notes]
        before = _previous_manifest(folder)
        if not before and os.path.lexists(folder / manifest_file.NAME):
            lines.append(f"{manifest_file.NAME} was damaged, and is written anew")
        written = keep(config, outcomes, overrides)
        if written is not None:
            run = RunFolder.of(folder, written)  # not read: another command may write its own by now
            dropped = sweep.no_longer_shown(before, written)
            lines += [*_counts(run, completed, verbose), *([dropped] if dropped else [])]
            start = time.perf_counter()
            return_freed_memory()
            with seldom_collected():
                page = report.write(run, tell=lambda step: shown.says(f"report: {step}"))
            if verbose:
                times = {outcome.job: (outcome.seconds, outcome.computed.work()) for outcome in completed}
                from axiom_bench.report.page.this_run import time_lines  # here: imports what the page was written with

                lines += time_lines(times, time.perf_counter() - start)
            mirror.push(folder)
            lines += [*report.headline(run), f"report: {remote.named(page)}"]
        return exit_code(outcomes), [*lines, *failed(outcomes)]


def keep(config: dict[str, Any], outcomes: Sequence[Outcome], overrides: Sequence[str] = ()) -> dict[str, Any] | None:
    """Writes the manifest of a sweep, with which its values count, and no report; None where every job has failed.
    Raises BenchError where the folder can't be written."""
    folder, written = run_folder(config), None
    if any(outcome.failure is None for outcome in outcomes):
        before = _previous_manifest(folder)
        written = manifest.assemble(outcomes, config["experiment"], config["run"], overrides)
        for kind in manifest_file.OF_JOBS:  # of a job that found everything there, what it cost the command before
            numbers = {**(before.get(kind) or {}), **written[kind]}
            written[kind] = {job["job"]: numbers[job["job"]] for job in written["jobs"] if job["job"] in numbers}
        if (last := stamp.seconds(folder)) is not None:  # its own aren't known before it is written
            written["report_seconds"] = last
        if (command := running.command(folder)) is not None:
            written["command"] = command
        manifest_file.write(folder, written)
        mirror.push(folder)
    running.end(folder)
    return written


def _previous_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of the command before this one; empty where there is none that can be read."""
    try:
        return manifest_file.read(folder)
    except BenchError:
        return {}


def _counts(run: RunFolder, completed: Sequence[Outcome], verbose: bool) -> Iterator[str]:
    """A line where nothing was computed, one of the images left out; verbose: one of the statuses other than ok."""
    if not any(outcome.computed.shards for outcome in completed):
        shards = sum(outcome.shards for outcome in completed)
        yield f"{shards} of {shards} shards were already there: nothing was computed"
    parts = [run.records, run.class_records]
    counts: Counter[str] = sum((Counter(rows.counts(rows.metrics)) for rows in parts), Counter())
    undefined = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    if undefined and verbose:
        yield f"values: {counts['ok']} ok, {undefined}"
    columns = {"data": str, "image_id": str}
    rows = pd.concat([part.of_images[[*columns, "target_class"]].astype(columns) for part in parts])
    bad = rows[rows["target_class"] == UNKNOWN_CLASS].drop_duplicates()
    if len(bad):
        names = ", ".join(bad["image_id"].head(MAX_NAMES)) + (", ..." if len(bad) > MAX_NAMES else "")
        yield f"images left out: {len(bad)} ({names})"


def failed(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A line for each message, with all the jobs that failed with it; after a defect its traceback."""
    by_message: dict[str, list[Failure]] = {}
    for failure in _failures(outcomes):
        by_message.setdefault(failure.message, []).append(failure)
    for message, group in by_message.items():
        yield f"failed: {', '.join(dict.fromkeys(failure.job for failure in group))}: {message}"
        if not group[0].mendable:
            yield f"This is a defect of axiom-bench; please report it with these lines:\n{group[0].trace}"


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """0, or MENDABLE or DEFECT where a job has failed."""
    failures = _failures(outcomes)
    if not failures:
        return 0
    return MENDABLE if all(failure.mendable for failure in failures) else DEFECT


def _failures(outcomes: Sequence[Outcome]) -> list[Failure]:
    return [outcome.failure for outcome in outcomes if outcome.failure is not None]
