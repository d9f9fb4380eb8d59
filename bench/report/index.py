"""The index of all runs next to a report, `results/index.html`. It reads the runs' manifests and
conclusions, and no records.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from axiom_bench.errors import BenchError, plural
from axiom_bench.records import artefacts, files, running
from axiom_bench.records.entries import Manifest
from axiom_bench.report import summary
from axiom_bench.report.page.html import Header, Section, assemble, render_part
from axiom_bench.statistics.labels import Metadata

NAME = "index.html"
ABOVE = "axiom-bench, index of runs"  # in the page's title; an index of ours is known by it
# The paths of run folders in a folder of results: of one run, and of several runs combined.
RUN_FOLDER_PATTERNS = ("*/*", "*")


@dataclass(frozen=True)
class IndexRow:
    """A run in the index."""

    name: str  # experiment/run
    link: str  # to its report; empty if there is none
    created: datetime | None  # `None` if the manifest's text is no time
    conclusion: str
    facts: Mapping[str, str]  # {"Data", "Networks", ...: names}
    state: str  # empty, or why the run or its report isn't complete


def update(folder: Path, manifest: Manifest) -> None:
    """Write the index of the results that a run folder is in, completely or not at all. A folder
    elsewhere has no index.

    A report is worth more than its place in the index. If the index can't be written, a line on
    standard error says so.
    """
    folder = folder.absolute()
    root: Path | None
    if [folder.parent.name, folder.name] == [manifest.experiment, manifest.run]:
        root = folder.parents[1]
    else:  # a folder of combined runs is known only by the index above it
        root = next((parent for parent in folder.parents[:2] if _is_ours(parent)), None)
    if root is None:
        return
    try:
        if (root / NAME).exists() and not _is_ours(root):
            raise BenchError(
                f"{root / NAME} is another page, and stays; move it to have the index there."
            )
        files.write(root / NAME, page(root).encode(errors="replace"))
    except (BenchError, OSError) as error:
        print(f"axiom-bench: no index of all runs: {error}", file=sys.stderr, flush=True)


def _is_ours(root: Path) -> bool:
    """Return whether a folder has an index that this module wrote."""
    try:
        return f"| {ABOVE}</title>".encode() in files.read(root / NAME)
    except OSError:
        return False


def page(root: Path) -> str:
    """Return the page of a folder of results as HTML. It omits folders that hold no run, and lists
    unreadable runs with the reason.
    """
    runs = []
    left_out = {}
    folders: set[Path] = set()
    for pattern in RUN_FOLDER_PATTERNS:
        folders.update(root.glob(pattern))
    for folder in sorted(folders):
        # Path.exists raises for a folder that can't be read.
        has_manifest = os.path.exists(folder / artefacts.NAME)
        if not has_manifest and not os.path.isdir(folder / running.FOLDER):
            continue
        name = folder.relative_to(root).as_posix()
        try:
            if not has_manifest:
                raise BenchError("Its first command hasn't ended.")
            runs.append(_run(folder, name, artefacts.read(folder)))
        except BenchError as error:
            left_out[name] = str(error)
    runs.sort(key=lambda run: run.created or datetime.min.replace(tzinfo=UTC), reverse=True)
    body = render_part("runs", runs=runs, left_out=left_out)
    section = Section("runs", "Runs", body, ("index.css",), ("index.js",))
    return assemble(Header(ABOVE, plural(len(runs), "run"), {}), [section])


def _run(folder: Path, name: str, manifest: Manifest) -> IndexRow:
    """Return a run's entry."""
    has_report = os.path.isfile(folder / summary.PAGE)
    last_report = summary.read(folder)
    data_sets = [f"{data} (n = {len(entry.ids):,})" for data, entry in manifest.data.items()]
    method_title = Metadata(manifest).method_title
    facts = {
        "Data": ", ".join(data_sets),
        "Networks": ", ".join(manifest.models),
        "Methods": ", ".join(map(method_title, manifest.methods)),
    }
    if accuracy := str(last_report.get("accuracy") or ""):
        facts["Accuracy"] = accuracy
    states = []
    if not has_report:
        states.append("no report yet")
    if os.path.isdir(folder / running.FOLDER):
        states.append("its last command hasn't ended")
    # a folder's name may have any bytes, which an address can't have
    return IndexRow(
        name=name,
        link=quote(os.fsencode(f"{name}/{summary.PAGE}")) if has_report else "",
        created=_time(manifest.created),
        conclusion=str(last_report.get("conclusion") or ""),
        facts=facts,
        state="; ".join(states),
    )


def _time(text: str) -> datetime | None:
    """Return a time in UTC, to the second, or `None` if the text is no time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None
