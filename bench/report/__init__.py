"""The report of a run: tables, statistics, figures and one page, from manifest and records only.

This package imports records, columns and errors, but never torch, nor code that a run folder names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from axiom_bench.columns import OK
from axiom_bench.environment import infrequent_garbage_collection
from axiom_bench.errors import BenchError

if TYPE_CHECKING:
    from axiom_bench.statistics.paired_tests import compare
    from axiom_bench.statistics.run_folder import RunFolder

__all__ = [
    "compare",
    "gallery_address",
    "headline",
    "reasons_without_value",
    "status_lines",
    "time_lines",
    "write",
]


def write(
    run: RunFolder | Path,
    tell: Callable[[str], None] = lambda step: None,
) -> Path:
    """Write tables/, figures/ and report.html into a run folder, and the index of all runs next to
    it.

    The same records give the same bytes.

    Args:
        run: The folder, or the run that `shown.read_run` returned.
        tell: Called with the name of the next step.

    Returns:
        The path of report.html.

    Raises:
        BenchError: If the run can't be read or the folder can't be written.
    """
    from axiom_bench.records import running
    from axiom_bench.report import index, summary
    from axiom_bench.report.options import options_of
    from axiom_bench.report.shown import read_run
    from axiom_bench.report.tables.headline import run_conclusion
    from axiom_bench.report.tables.text import accuracy_text
    from axiom_bench.report.writing import write_report

    if isinstance(run, Path):
        run = read_run(run)
    folder = run.path
    options_of(run)  # raises for a wrong option before any file is removed
    try:
        with infrequent_garbage_collection(), running.hold_lock(folder, running.REPORT):
            others = summary.remove_files(folder)
            texts = {}
            try:
                write_report(run, tell)
                sentence = run_conclusion(run).sentence
                texts = {"conclusion": sentence, "accuracy": accuracy_text(run)}
            finally:  # the next report also removes the files of one that was interrupted
                summary.write(folder, others, texts)
        index.update(folder, run.manifest)
    except FileNotFoundError as error:
        if not Path(error.filename or "").is_relative_to(folder):
            raise
        raise BenchError(
            f"{error.filename} was removed while the report was written; write it again."
        ) from error
    return folder / summary.PAGE


def headline(run: RunFolder | Path, width: int = 80) -> list[str]:
    """Return the run's main results in lines of `width` characters, see `tables.result_lines`.

    Args:
        run: The folder, or the run that was read from it already.
        width: The characters of a line.

    Raises:
        BenchError: If the run can't be read.
    """
    from axiom_bench.report.shown import read_run
    from axiom_bench.report.tables.headline import result_lines

    return result_lines(read_run(run) if isinstance(run, Path) else run, width=width)


def status_lines(run: RunFolder, verbose: bool = False) -> list[str]:
    """Return a line about images that are left out. If `verbose`, a line about the values that
    aren't numbers comes before it.
    """
    from axiom_bench.report.tables.headline import status_lines

    return status_lines(run, verbose)


def gallery_address(run: RunFolder) -> str | None:
    """Return the address of the gallery in the pages that `write` has written, or `None` if the run
    has no gallery.
    """
    from axiom_bench.report import gallery, summary

    if not run.manifest.gallery:
        return None
    folder_page = run.path / gallery.FOLDER / "index.html"
    page = folder_page if folder_page.is_file() else run.path / summary.PAGE
    return f"{page}#{gallery.ID}"


def reasons_without_value(run: RunFolder) -> str | None:
    """Return why no value of the run is a number, or `None` if one is."""
    from axiom_bench.report.tables.headline import status_counts, undefined_values

    statuses = status_counts(run)
    if statuses[OK]:
        return None
    return undefined_values(statuses) or "no image has a row"


def time_lines(
    jobs: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]], report: float
) -> Iterable[str]:
    """Return how long the parts of a run took, see `page.this_run.time_lines`."""
    from axiom_bench.report.page.this_run import time_lines

    return time_lines(jobs, report)


def __getattr__(name: str) -> object:
    if name == "compare":
        from axiom_bench.statistics.paired_tests import compare

        return compare
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
