"""The report's tables: pure functions of the run's summary, each with its counts and the statuses that aren't ok."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from axiom_bench.records import files
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.by_metric import metric_tables
from axiom_bench.report.tables.correctness import correctness_tables
from axiom_bench.report.tables.csv_text import to_csv
from axiom_bench.report.tables.frames import long_frame, wide_frame
from axiom_bench.report.tables.headline import headline_tables
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.markdown import to_markdown
from axiom_bench.report.tables.overview import overview_table
from axiom_bench.report.tables.paired import paired_tables
from axiom_bench.report.tables.pairs import pair_frame, pair_tables
from axiom_bench.report.tables.places import place_frame, place_tables
from axiom_bench.report.tables.runtime import runtime_table
from axiom_bench.report.tables.statuses import status_table
from axiom_bench.report.tables.table import Table
from axiom_bench.statistics.run_folder import RunFolder


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write every table as Markdown and LaTeX, and a short one for each headline metric; summary.csv (long),
    overview.csv (wide), pairs.csv, places.csv and runtime.csv for programs. The tables of the page.

    Raises BenchError where the folder can't be written.
    """
    tables = list(all_tables(run, run.summary, run.split_summary))
    for table in (*tables, *headline_tables(run, run.summary)):
        name = files.safe_name(table.name)  # it may hold a metric's name
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        files.write(folder / f"{name}.tex", to_latex(table, options_of(run).latex.width).encode())
    frames = {
        "summary": long_frame(run, run.summary, run.split_summary),
        "overview": wide_frame(run, run.summary),
        "runtime": run.runtime,
        "pairs": pair_frame(run),
        "places": place_frame(run),
    }
    for name, frame in frames.items():
        files.write(folder / f"{name}.csv", to_csv(frame).encode())
    return tables


def all_tables(run: RunFolder, summary: pd.DataFrame, split: pd.DataFrame) -> Iterator[Table]:
    """In the order of the report."""
    yield overview_table(run, summary)
    yield from place_tables(run)
    yield from pair_tables(run)
    yield from paired_tables(run)
    yield from metric_tables(run, summary)
    yield from correctness_tables(run, split)
    yield status_table(run, summary)
    yield runtime_table(run)
