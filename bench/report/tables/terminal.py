"""What a run ends with on a terminal: methods x headline metrics, networks one under another, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.summaries import of_methods
from axiom_bench.report.tables.text import ARROWS, CONSTRUCTED, PARTIAL, last_lines, marked, random_weights_lines
from axiom_bench.statistics.labels import NOTHING, Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import leading

TITLE, COLUMN = 27, 13  # characters of a method's title, and of a metric's column with the gap before it
MOST = (80 - TITLE) // COLUMN  # metrics
BEST = "*"
MEANINGS = {
    BEST: "best, or not significantly worse",
    NOTHING: "no value",
    PARTIAL: "on fewer images",
    CONSTRUCTED: "0 by construction",
}


def result_lines(run: RunFolder) -> list[str]:
    """The table, a line that says what its signs mean, and a line for each headline metric of the layer alone; with
    `config.report.compare`, one for each metric that has a direction. Models with random weights come first."""
    measured = set(run.summary.loc[run.summary["method"] != METHOD_FREE, "metric"])
    names = [name for name in options_of(run).headline if name in measured]
    warnings, values = random_weights_lines(run), [run.metadata.value(name) for name in names[:MOST]]
    table = (
        [*_heading(values), *(line for at in run.settings for line in _of_setting(run, at, values))] if values else []
    )
    signs = [f"{sign} {meaning}" for sign, meaning in MEANINGS.items() if any(sign in line for line in table)]
    more = [f"{len(names) - MOST} more metrics in the report"] if len(names) > MOST else []
    note = ["; ".join([*signs, *more])] if signs or more else []
    return [*warnings, *table, *note, *last_lines(run, set(names))[len(warnings) :]]


def _heading(values: Sequence[Value]) -> Iterator[str]:
    """The metrics' titles with their arrows, as many lines as the longest takes, the last ones level."""
    titles = [textwrap.wrap(value.title + ARROWS.get(value.better, ""), COLUMN - 1) for value in values]
    height = max(map(len, titles))
    for line in zip(*([""] * (height - len(title)) + title for title in titles), strict=True):
        yield _row("", line)


def _of_setting(run: RunFolder, setting: Setting, values: Sequence[Value]) -> Iterator[str]:
    rows = leading(rows_at(run.summary, setting))
    rows = rows[(rows["method"] != METHOD_FREE) & rows["metric"].isin([value.name for value in values])]
    methods = list(dict.fromkeys(rows.loc[rows["n"] > 0, "method"]))
    if methods:
        yield f"{run.label(setting)} ({counts_text([rows['images'].max()], [rows['n'].max()])})"
    columns = [
        [
            BEST * is_best + marked(number(row[lead], value.rounding) if row["n"] > 0 else NOTHING, row)
            for row, lead, is_best in of_methods(run, setting, rows, value, methods)
        ]
        for value in values
    ]
    for name, *cells in zip(methods, *columns, strict=True):
        yield _row(f"  {run.metadata.method_title(name)}", cells)


def _row(title: str, cells: Sequence[str]) -> str:
    title = title if len(title) < TITLE else f"{title[: TITLE - 4]}..."
    return f"{title:{TITLE}}{''.join(cell.rjust(COLUMN) for cell in cells)}".rstrip()
