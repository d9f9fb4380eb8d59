"""The report's tables: pure functions of the run, each with its counts and the statuses that aren't ok.

A new table is a function of a run, and an entry of `all_tables`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from axiom_bench.records import files
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.comparisons import pair_frame, pair_tables, paired_tables, place_frame, place_tables
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.summaries import (
    correctness_tables,
    headline_tables,
    long_frame,
    metric_tables,
    overview_table,
    runtime_table,
    status_table,
    training_tables,
    wide_frame,
)
from axiom_bench.report.tables.table import Table, to_csv, to_markdown
from axiom_bench.statistics.labels import UNSTABLE
from axiom_bench.statistics.run_folder import RunFolder


def all_tables(run: RunFolder) -> list[Table]:
    """Those of the page, in its order, each with a sentence for every method and metric that is marked in its run."""
    tables = [
        overview_table(run), *training_tables(run), *place_tables(run), *pair_tables(run), *paired_tables(run),
        *metric_tables(run), *correctness_tables(run), status_table(run), runtime_table(run),
    ]  # fmt: skip
    return [_with_marks(run, table) for table in tables]


def _with_marks(run: RunFolder, table: Table) -> Table:
    marks = tuple(f"{UNSTABLE} {name}: {why}." for name, why in run.metadata.unstable().items())
    return replace(table, notes=(*table.notes, *marks))


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write every table as Markdown and LaTeX, and a short one for each headline metric; summary.csv (long),
    overview.csv (wide), pairs.csv, places.csv and runtime.csv for programs. The tables of the page.

    Raises BenchError where the folder can't be written.
    """
    tables = all_tables(run)
    for table in (*tables, *(_with_marks(run, each) for each in headline_tables(run))):
        name = files.safe_name(table.name)  # it may hold a metric's name
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        files.write(folder / f"{name}.tex", to_latex(table, options_of(run).latex.width).encode())
    frames = {
        "summary": long_frame(run), "overview": wide_frame(run), "runtime": run.runtime,
        "pairs": pair_frame(run), "places": place_frame(run),
    }  # fmt: skip
    for name, frame in frames.items():
        files.write(folder / f"{name}.csv", to_csv(frame).encode())
    return tables
