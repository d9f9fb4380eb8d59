"""The end of a run: manifest, report, and the last lines that a reader sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from axiom_bench import report
from axiom_bench.cli.replaced import no_longer_shown
from axiom_bench.columns import WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.records import manifest as manifest_file
from axiom_bench.records import reading
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.run import manifest
from axiom_bench.run.execute import run_folder
from axiom_bench.run.manifest import Failure, Outcome

NAMED = 5  # bad images that are named
MENDABLE, DEFECT = 2, 1  # exit codes: the user can mend it; this program can't go on


def finish(config: dict[str, Any], outcomes: Sequence[Outcome], overrides: Sequence[str] = ()) -> tuple[int, list[str]]:
    """Writes the manifest and the report of a sweep; its exit code and its last lines.

    overrides: as they were typed. Raises BenchError.
    """
    folder = run_folder(config)
    done = [outcome for outcome in outcomes if outcome.failure is None]
    failures = [outcome.failure for outcome in outcomes if outcome.failure is not None]
    lines = [f"{outcome.job}: {note}" for outcome in outcomes for note in outcome.notes]
    if done:
        before = _earlier(folder)
        written = manifest.assemble(outcomes, config["experiment"], config["run"], overrides)
        manifest_file.write(folder, written)
        run = RunFolder.read(folder)
        lost = no_longer_shown(before, written)
        lines += [*_counts(run, done), *([lost] if lost else [])]
        lines += [*report.headline(run), f"report: {report.write(run)}"]
    return _exit_code(failures), [*lines, *_failed(failures)]


def _earlier(folder: Path) -> Mapping[str, Any]:
    """The manifest of the command before this one; empty where there is none that can be read."""
    try:
        return reading.read_manifest(folder)
    except BenchError:
        return {}


def _counts(run: RunFolder, done: Sequence[Outcome]) -> Iterator[str]:
    """How much was there already, and every status that isn't "ok", in values; bad images in images."""
    shards, computed = sum(outcome.shards for outcome in done), sum(outcome.shards_computed for outcome in done)
    if not computed:
        yield f"{shards} of {shards} shards were already there: nothing was computed"
    yield from _statuses(run)


def _statuses(run: RunFolder) -> Iterator[str]:
    parts = [run.records, run.class_records]
    counts = Counter(status for rows in parts for status in rows["status"].astype(str))
    undefined = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()) if status != "ok")
    if undefined:
        yield f"values: {counts['ok']} ok, {undefined}"
    columns = ["data", "image_id", "target_class"]
    rows = pd.concat([part.loc[part["target_class"] == -1, columns].astype({"data": str}) for part in parts])
    bad = rows[rows["image_id"] != WHOLE_SET].drop_duplicates()
    if len(bad):
        names = ", ".join(bad["image_id"].head(NAMED)) + (", ..." if len(bad) > NAMED else "")
        yield f"images left out: {len(bad)} ({names})"


def _failed(failures: Sequence[Failure]) -> Iterator[str]:
    """Each failed job by name; the same sentence once, with all the jobs that it stopped. A defect says where it is."""
    messages: dict[str, list[Failure]] = {}
    for failure in failures:
        messages.setdefault(failure.message, []).append(failure)
    for message, same in messages.items():
        yield f"failed: {', '.join(dict.fromkeys(failure.job for failure in same))}: {message}"
        if not same[0].mendable:
            yield f"This is a defect of axiom-bench; please report it with these lines:\n{same[0].trace}"


def _exit_code(failures: Sequence[Failure]) -> int:
    if not failures:
        return 0
    return MENDABLE if all(failure.mendable for failure in failures) else DEFECT
