"""The index of all runs beside a report, `results/index.html`: from their manifests and
conclusions, no records.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from axiom_bench.errors import BenchError
from axiom_bench.records import artefacts, files, running
from axiom_bench.records.entries import Manifest
from axiom_bench.report import summary
from axiom_bench.report.page.html import Header, Section, assemble, part
from axiom_bench.statistics.labels import Metadata, plural

NAME = "index.html"
ABOVE = "axiom-bench, index of runs"  # in the page's title, by which its own file is known
LEVELS = ("*/*", "*")  # of run folders in a folder of results; of several runs combined


@dataclass(frozen=True)
class Run:
    """name: experiment/run. link: to its report, empty where there is none. created: None where it
    is no time. facts: {what: names}. state: empty, or why there is more to come.
    """

    name: str
    link: str
    created: datetime | None
    conclusion: str
    facts: Mapping[str, str]
    state: str


def update(folder: Path, manifest: Manifest) -> None:
    """Write the index of the results that a run folder lies in, whole or not at all; none for a
    folder elsewhere. A report is worth more than its place in the index: where this can't be
    written, a line on standard error says so.
    """
    folder = folder.absolute()
    if [folder.parent.name, folder.name] == [manifest.experiment, manifest.run]:
        root: Path | None = folder.parents[1]
    else:  # of runs combined, by the index that is there
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
    try:
        return f"| {ABOVE}</title>".encode() in files.read(root / NAME)
    except OSError:
        return False


def page(root: Path) -> str:
    """The page of a folder of results. Folders that hold no run aren't told; a run that can't be
    read is, and why.
    """
    runs, left_out = [], {}
    for folder in sorted({path for level in LEVELS for path in root.glob(level)}):
        has_manifest = os.path.exists(
            folder / artefacts.NAME
        )  # Path's own raises where a folder can't be read
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
    section = Section(
        "runs", "Runs", part("runs", runs=runs, left_out=left_out), ("index.css",), ("index.js",)
    )
    return assemble(Header(ABOVE, plural(len(runs), "run"), {}), [section])


def _run(folder: Path, name: str, manifest: Manifest) -> Run:
    has_report = os.path.isfile(folder / summary.PAGE)
    last_report = summary.read(folder)
    accuracy = str(last_report.get("accuracy") or "")
    unfinished = "its last command hasn't ended" if os.path.isdir(folder / running.FOLDER) else ""
    return Run(
        name,
        quote(os.fsencode(f"{name}/{summary.PAGE}")) if has_report else "",
        _time(manifest.created),
        str(last_report.get("conclusion") or ""),
        dict(_facts(manifest)) | ({"Accuracy": accuracy} if accuracy else {}),
        "; ".join(filter(None, ("" if has_report else "no report yet", unfinished))),
    )


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    yield (
        "Data",
        ", ".join(f"{name} (n = {len(about.ids):,})" for name, about in manifest.data.items()),
    )
    yield "Networks", ", ".join(manifest.models)
    yield "Methods", ", ".join(map(Metadata(manifest).method_title, manifest.methods))


def _time(text: str) -> datetime | None:
    """In UTC, to the second."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        return None
