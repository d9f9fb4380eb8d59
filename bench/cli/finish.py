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
from axiom_bench.environment import return_freed_memory, seldom_collected
from axiom_bench.errors import BenchError, first_names
from axiom_bench.records import artefacts as manifest_file
from axiom_bench.records import running
from axiom_bench.run import manifest
from axiom_bench.run.composing.settings import Settings
from axiom_bench.run.progress import progress
from axiom_bench.run.result import JobResult
from axiom_bench.statistics.run_folder import RunFolder

MAX_NAMES = 5  # of bad images, and of each kind of what is no longer shown
HINT = "mend what is told above, or choose metrics that need no more than is there"
MENDABLE, DEFECT = 2, 1  # exit codes: a mistake that the user can mend; a defect of this program


def finish(
    settings: Settings, results: Sequence[JobResult], overrides: Sequence[str] = (), verbose: bool = False
) -> tuple[int, list[str]]:
    """Writes the manifest and the report of a sweep; its exit code and its last lines. overrides: as they were typed.
    verbose: with statuses and the time of each stage, which the page and the manifest have too. Raises BenchError."""
    folder = settings.run_folder
    statuses = Counter({"ok": 1})  # where every job has failed, a line says why
    with progress("report") as shown:
        completed = [result for result in results if result.failure is None]
        jobs_by_line: dict[str, list[str]] = {}
        for result in results:
            for line in result.lines:
                jobs_by_line.setdefault(line, []).append(result.job)
        lines = [f"{first_names(jobs, MAX_NAMES)}: {line}" for line, jobs in jobs_by_line.items()]
        before = _previous_manifest(folder)
        if not before and os.path.lexists(folder / manifest_file.NAME):
            lines.append(f"{manifest_file.NAME} was damaged, and is written anew")
        written = keep(settings, results, overrides)
        if written is not None:
            run = RunFolder.of(folder, written)  # not read: another command may write its own by now
            dropped = no_longer_shown(before, written)
            statuses = sum((Counter(rows.counts(rows.metrics)) for rows in (run.records, run.class_records)), Counter())
            lines += [*_counts(run, statuses, verbose), *([dropped] if dropped else [])]
            start = time.perf_counter()
            return_freed_memory()
            with seldom_collected():
                page = report.write(run, tell=lambda step: shown.says(f"report: {step}"))
            if verbose:
                times = {result.job: (result.seconds, result.work()) for result in completed}
                from axiom_bench.report.page.this_run import time_lines  # here: imports what the page was written with

                lines += time_lines(times, time.perf_counter() - start)
            lines += [*report.headline(run), f"report: {page}"]
        if not statuses["ok"]:
            lines.append(f"There is no value: {_undefined(statuses) or 'no image has a row'}; {HINT}.")
        return exit_code(results) or MENDABLE * (not statuses["ok"]), [*lines, *failed(results)]


def keep(settings: Settings, results: Sequence[JobResult], overrides: Sequence[str] = ()) -> dict[str, Any] | None:
    """Writes the manifest of a sweep, with which its values count, and no report; None where every job has failed.
    Raises BenchError where the folder can't be written."""
    folder = settings.run_folder
    written = None
    if any(result.failure is None for result in results):
        before = _previous_manifest(folder)
        written = manifest.assemble(results, settings, overrides)
        for kind in manifest_file.OF_JOBS:  # of a job that found everything there, what it cost the command before
            numbers = {**(before.get(kind) or {}), **written[kind]}
            written[kind] = {job["job"]: numbers[job["job"]] for job in written["jobs"] if job["job"] in numbers}
        if (command := running.command(folder)) is not None:
            written["command"] = command
        manifest_file.write(folder, written)
    running.end(folder)
    return written


def _previous_manifest(folder: Path) -> Mapping[str, Any]:
    """The manifest of the command before this one; empty where there is none that can be read."""
    try:
        return manifest_file.read(folder)
    except BenchError:
        return {}


def _counts(run: RunFolder, statuses: Mapping[str, int], verbose: bool) -> Iterator[str]:
    """A line of the images left out; verbose: one of the statuses other than ok."""
    if verbose and (undefined := _undefined(statuses)):
        yield f"values: {statuses['ok']} ok, {undefined}"
    parts = [run.records, run.class_records]
    columns = {"data": str, "image_id": str}
    rows = pd.concat([part.of_images[[*columns, "target_class"]].astype(columns) for part in parts])
    bad = rows[rows["target_class"] == UNKNOWN_CLASS].drop_duplicates()
    if len(bad):
        names = ", ".join(bad["image_id"].head(MAX_NAMES)) + (", ..." if len(bad) > MAX_NAMES else "")
        yield f"images left out: {len(bad)} ({names})"


def _undefined(statuses: Mapping[str, int]) -> str:
    from axiom_bench.report.tables.text import reason  # here: imports what the page was written with

    undefined = (each for each in sorted(statuses.items()) if each[0] != "ok")
    return ", ".join(f"{count} {status} ({reason(status)})" for status, count in undefined)


def failed(results: Sequence[JobResult]) -> Iterator[str]:
    """A line for each message, with all the jobs that failed with it; after a defect its traceback."""
    by_message: dict[str, list[JobResult]] = {}
    for result in results:
        if result.failure is not None:
            by_message.setdefault(result.failure.message, []).append(result)
    for message, group in by_message.items():
        yield f"failed: {', '.join(dict.fromkeys(result.job for result in group))}: {message}"
        first = group[0].failure
        if first is not None and not first.mendable:
            yield f"This is a defect of axiom-bench; please report it with these lines:\n{first.trace}"


def exit_code(results: Sequence[JobResult]) -> int:
    """0, or MENDABLE or DEFECT where a job has failed."""
    failures = [result.failure for result in results if result.failure is not None]
    if not failures:
        return 0
    return MENDABLE if all(failure.mendable for failure in failures) else DEFECT


def no_longer_shown(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Return one line that names what the new manifest leaves out, and what to type to have both.

    The line has models, layers, weights, methods, metrics, images and a protocol. It is `None` if nothing is left out.
    """
    parts = list(_missing(before, after))
    if not parts:
        return None
    return (
        f"the report no longer shows {'; '.join(parts)}: this run folder held them until now, and their records are "
        "kept. For a folder of its own, give one of the two commands run=NAME."
    )


def _missing(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key, kind in (("models", "model"), ("methods", "method"), ("metrics", "metric"), ("data", "data set")):
        if names := [name for name in before.get(key) or {} if name not in (after.get(key) or {})]:
            yield _listed(kind, names)
    for model, old, new in _in_both(before, after, "models"):
        if layers := [layer for layer in old.get("layers") or () if layer not in (new.get("layers") or ())]:
            yield f"{_listed('layer', layers)} of {model}"
        if (weights := old.get("weights_sha256")) and weights != new.get("weights_sha256", weights):
            yield f"other weights of {model}"
    for data, old, new in _in_both(before, after, "data"):
        if count := len(set(old.get("ids") or ()) - set(new.get("ids") or ())):
            yield f"{count} image{'s' if count > 1 else ''} of {data}"
        elif old.get("ids") == new.get("ids") and old.get("fingerprint") != new.get("fingerprint"):
            yield f"other files of {data}"
    protocols = [((manifest.get("config") or {}).get("protocol") or {}).get("name") for manifest in (before, after)]
    if before and protocols[0] != protocols[1]:
        yield f"protocol {protocols[0]}" if protocols[0] else "values without a protocol"


def _in_both(before: Mapping[str, Any], after: Mapping[str, Any], key: str) -> list[tuple[str, Any, Any]]:
    """(name, old, new) of what both manifests have."""
    new = after.get(key) or {}
    return [(name, old, new[name]) for name, old in (before.get(key) or {}).items() if name in new]


def _listed(kind: str, names: Sequence[str]) -> str:
    return f"{kind}{'s' if len(names) > 1 else ''} {first_names(names, MAX_NAMES)}"
