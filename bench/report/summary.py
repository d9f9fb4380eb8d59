"""The summary of a folder's last report: its conclusion for the index of runs, and its files for
the next report.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from axiom_bench.records import artefacts, files

FILE = "report.json"  # in the run folder, next to the page
PAGE = "report.html"


def read(folder: Path) -> dict[str, object]:
    """Return the summary: "conclusion", "accuracy" and "files". It is empty if no summary can be
    read.
    """
    try:
        return files.read_json(folder / FILE)
    except (OSError, ValueError):
        return {}


def remove_files(folder: Path) -> dict[Path, int]:
    """Remove the files of the last report. A figure of a metric that is gone must not stay next to
    the new ones.

    Returns:
        {path: time of the last change in nanoseconds} of the other files in the report's folders.
        They belong to the user or to other commands, and stay.
    """
    names = read(folder).get("files")
    others: dict[Path, int] = {}
    for path, changed in _changes(folder).items():
        if isinstance(names, list) and path.relative_to(folder).as_posix() in names:
            path.unlink()
        else:
            others[path] = changed
    return others


def write(folder: Path, others: Mapping[Path, int], texts: Mapping[str, str]) -> None:
    """Write the summary. Raises BenchError if the folder can't be written.

    Args:
        folder: The run folder.
        others: The result of `remove_files`.
        texts: The "conclusion" and the "accuracy" that the index of runs shows.
    """
    changes = _changes(folder).items()
    written = [
        path.relative_to(folder).as_posix()
        for path, changed in changes
        if others.get(path) != changed
    ]
    files.write_json(folder / FILE, {**texts, "files": sorted(written)}, indent=1)


def _changes(folder: Path) -> dict[Path, int]:
    """Return {path: time of its last change} of the files whose names a report may use."""
    return {
        path: path.lstat().st_mtime_ns for path in artefacts.report_files(folder) if path.is_file()
    }
