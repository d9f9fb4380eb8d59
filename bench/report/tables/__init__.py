"""The report's tables: pure functions of the run's summary, each with its counts and the statuses that aren't ok."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from axiom_bench.records import files
from axiom_bench.report.options import options_of
from axiom_bench.report.tables import summaries
from axiom_bench.report.tables.comparisons import pair_frame, pair_tables, paired_tables, place_frame, place_tables
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import Table, to_csv, to_markdown
from axiom_bench.statistics.labels import Setting
from axiom_bench.statistics.run_folder import RunFolder, milliseconds
from axiom_bench.statistics.summary import KEYS


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write every table as Markdown and LaTeX, and a short one for each headline metric; summary.csv (long),
    overview.csv (wide), pairs.csv, places.csv and runtime.csv for programs. The tables of the page.

    Raises BenchError where the folder can't be written.
    """
    tables = list(all_tables(run, run.summary, run.split_summary))
    for table in (*tables, *summaries.headline_tables(run, run.summary)):
        name = files.safe_name(table.name)  # it may hold a metric's name
        files.write(folder / f"{name}.md", to_markdown(table).encode())
        files.write(folder / f"{name}.tex", to_latex(table, options_of(run).latex.width).encode())
    summary, overview = long_frame(run, run.summary, run.split_summary), wide_frame(run, run.summary)
    frames = {"summary": summary, "overview": overview, "runtime": run.runtime}
    frames |= {"pairs": pair_frame(run), "places": place_frame(run)}
    for name, frame in frames.items():
        files.write(folder / f"{name}.csv", to_csv(frame).encode())
    return tables


def all_tables(run: RunFolder, summary: pd.DataFrame, split: pd.DataFrame) -> Iterator[Table]:
    """In the order of the report."""
    yield summaries.overview_table(run, summary)
    yield from place_tables(run)
    yield from pair_tables(run)
    yield from paired_tables(run)
    yield from summaries.metric_tables(run, summary)
    yield from summaries.correctness_tables(run, split)
    yield summaries.status_table(run, summary)
    yield summaries.runtime_table(run)


_NUMBERS = (
    "images", "n", "rows", "mean", "mean_low", "mean_high", "median", "median_low", "median_high", "standard_error",
)  # fmt: skip
_COMMON = ("compared", "common_images", "common_n", "common_mean", "common_median")


def long_frame(run: RunFolder, summary: pd.DataFrame, split: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting, method, metric and split (all, correct, wrong, unknown); n: rows with status ok;
    common_...: of the rows that all compared methods have, see `statistics.common`."""
    rows = pd.concat([summary.assign(split="all"), split], ignore_index=True)
    for about in ("unit", "better"):
        rows[about] = (
            rows["metric"].astype(str).map({name: getattr(run.metadata.value(name), about) for name in run.metrics})
        )
    return rows[[*KEYS, "split", "unit", "better", *_NUMBERS, *_COMMON, "statuses"]]


def wide_frame(run: RunFolder, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each setting and method: "<metric> mean", "<metric> median", "<metric> n", ..., and the method's
    milliseconds beyond the trace (of the trace itself in the row of method "-")."""
    keys = ["model", "layer", "data", "method"]
    if summary.empty:
        return pd.DataFrame(columns=keys)
    places = pd.MultiIndex.from_frame(summary[keys].drop_duplicates())
    parts = [pd.DataFrame(index=places)]
    for name in run.metrics:
        for whole_set in (True, False):
            rows = summary[(summary["metric"] == name) & (summary["whole_set"] == whole_set)]
            title = f"{name} (whole set)" if whole_set else name
            columns = {statistic: f"{title} {statistic}" for statistic in ("mean", "median", "n")}
            if len(rows):
                parts.append(rows.set_index(keys)[list(columns)].rename(columns=columns))
    table = pd.concat(parts, axis=1).reindex(places).copy().reset_index()  # a copy is in one piece
    times = {setting: milliseconds(run, setting) for setting in run.settings}
    spent = [times[Setting(*place)].get(method, float("nan")) for *place, method in table[keys].astype(str).to_numpy()]
    return table.assign(milliseconds_per_image=spent).convert_dtypes()
