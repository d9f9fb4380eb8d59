"""The report of a run: tables, figures and one page, from the manifest and the records alone, as often as one likes."""

from __future__ import annotations

from pathlib import Path

from axiom_bench.records import files
from axiom_bench.report.closing import closing_lines
from axiom_bench.report.figures import all_figures
from axiom_bench.report.figures.drawing import LeftOut
from axiom_bench.report.html import page, shown
from axiom_bench.report.run_folder import RunFolder
from axiom_bench.report.tables import write_tables

OURS = {"tables": ("csv", "md", "tex"), "figures": ("png", "pdf")}


def write(run_folder: Path) -> Path:
    """Write tables/, figures/ and report.html into a run folder; the path of report.html.

    The same records give the same bytes. Raises BenchError where the run can't be read or the folder not be written.
    """
    run = RunFolder.read(run_folder)
    _clear(run.path)
    tables = write_tables(run, run.path / "tables")
    figures = [
        figure if isinstance(figure, LeftOut) else shown(figure, run.path / "figures") for figure in all_figures(run)
    ]
    path = run.path / "report.html"
    files.write(path, page(run, tables, figures, closing_lines(run)).encode())
    return path


def headline(run_folder: Path) -> list[str]:
    """The numbers that matter, one line each: for every metric of `config.report.headline` the best method's value."""
    return closing_lines(RunFolder.read(run_folder))


def _clear(folder: Path) -> None:
    """Remove what an earlier report wrote: a figure of a metric that is gone must not stay beside the new ones."""
    for name, kinds in OURS.items():
        for kind in kinds:
            for old in sorted((folder / name).glob(f"*.{kind}")):
                old.unlink()
