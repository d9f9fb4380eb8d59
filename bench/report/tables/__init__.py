"""The report's tables: pure functions of the run's summary, each with its counts and the statuses that aren't ok."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pandas as pd

from axiom_bench.records import files
from axiom_bench.report.options import options_of
from axiom_bench.report.tables import summaries
from axiom_bench.report.tables.latex import to_latex
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric, to_csv, to_markdown
from axiom_bench.report.tables.text import (
    ARROWS,
    BOLD_NOTE,
    CONSTRUCTED,
    INTERVAL_NOTE,
    PARTIAL,
    compare_in,
    control_notes,
    group_name,
    group_title,
    last_lines,
    marked,
    names_of,
    warning_lines,
)  # fmt: skip
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.comparison import PAIR_COLUMNS, Comparison, Place
from axiom_bench.statistics.labels import NOTHING, UNSTABLE, Setting, Value, counts_text, number, rows_at, with_interval
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder, milliseconds
from axiom_bench.statistics.summary import KEYS, leading


def write_tables(run: RunFolder, folder: Path) -> list[Table]:
    """Write every table as Markdown and LaTeX, and a short one for each headline metric; summary.csv (long),
    overview.csv (wide), pairs.csv, places.csv and runtime.csv for programs. The tables of the page.

    Raises BenchError where the folder can't be written.
    """
    tables = list(all_tables(run, run.summary, run.split_summary))
    of_metrics = (_with_marks(run, table) for table in summaries.headline_tables(run, run.summary))
    for table in (*tables, *of_metrics):
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
    tables = (
        [summaries.overview_table(run, summary)], summaries.training_tables(run), place_tables(run), pair_tables(run),
        paired_tables(run), summaries.metric_tables(run, summary), summaries.correctness_tables(run, split),
        [summaries.status_table(run, summary)], [summaries.runtime_table(run)],
    )  # fmt: skip
    return (_with_marks(run, table) for table in chain.from_iterable(tables))


def _with_marks(run: RunFolder, table: Table) -> Table:
    """With the sentences of the methods and metrics that are marked in its run."""
    marks = tuple(f"{UNSTABLE} {name}: {why}." for name, why in run.metadata.unstable().items())
    return replace(table, notes=(*table.notes, *marks))


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


PLACES = "Places"
PLACES_HEADER = ("Method", "Value [95 %]", "Place", "Not significantly different from")
PLACES_NOTES = (
    "Place: from 1 + the number of methods that are better to the number of methods - those that are worse, by the "
    f"tests of all pairs at {LEVEL:.0%} after Holm. So all places of a metric hold together. Methods that "
    "coincide have one place. Values are over the rows that all compared methods have.",
    BOLD_NOTE,
    INTERVAL_NOTE,
)
PAIRS = "All pairs of methods"
PAIRS_HEADER = (
    "Method", "Against", "Images", "Better", "Same", "Worse", "Difference [95 %]", "p, Holm", "Images' p, Holm",
    "Shown from",
)  # fmt: skip
PAIRS_NOTES = (
    "Images: those that all compared methods have. Difference: of the two methods' means, or medians where the metric "
    "leads with it, the first minus the second. p, Holm: of this difference, from the same bootstrap over images as "
    f"its interval, adjusted for all pairs of its metric here; bold below {LEVEL:g}.",
    "Better, same, worse: on how many images the first method is; an image with several rows counts once, by its mean "
    "difference; equal but for rounding is the same. Images' p, Holm: of the sign test of these numbers; they may say "
    "the opposite of the difference, where a few images or one with many rows decide it.",
    "Shown from: the smallest difference that so many images would have shown with a probability of 80 %, by the "
    "interval's width (docs/statistics.md). Methods that coincide are one.",
)


def place_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting in which methods can be compared, one group for each metric with a direction."""
    for place, setting, groups in _compared(run, run.metrics, _places):
        notes = (*PLACES_NOTES, *control_notes(run, [setting], run.metrics))
        label = run.label(setting)
        yield Table.of_setting(f"places_{place}", PLACES, label, PLACES_HEADER, groups, notes, text_last=True)


def pair_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting with pairs; all metrics are in pairs.csv."""
    for place, setting, groups in _compared(run, options_of(run).headline, _pairs):
        yield Table.of_setting(f"pairs_{place}", PAIRS, run.label(setting), PAIRS_HEADER, groups, PAIRS_NOTES, 2)


def _compared(
    run: RunFolder, metrics: Iterable[str], rows_of: Callable[[RunFolder, Comparison, Value], list[tuple[Cell, ...]]]
) -> Iterator[tuple[int, Setting, tuple[Group, ...]]]:
    """(number, setting, a group of rows for each of the metrics with a direction), where a trained network has any."""
    values = [value for value in map(run.metadata.value, metrics) if value.has_direction and value.name in run.metrics]
    for i, setting in enumerate(run.settings, start=1):
        groups = []
        for value in values:
            comparison = run.comparisons.of(setting, value.name)
            if comparison is not None and (rows := rows_of(run, comparison, value)):
                title = group_title(value, comparison.of_whole_set) + _without(run, comparison, rows_of is _places)
                groups.append(Group(title, tuple(rows), value.name))
        if groups and not run.metadata.has_random_weights(setting.model):
            yield i, setting, tuple(groups)


def _without(run: RunFolder, comparison: Comparison, names_all: bool) -> str:
    """Who isn't compared, and why; those with too few values only if `names_all`."""
    left_out = {"too few values": comparison.left_out} if names_all else {}
    reasons = {"0 by construction": comparison.by_construction, **left_out}
    return "".join(f"; without {names_of(run, names)}, {why}" for why, names in reasons.items() if names)


def _places(run: RunFolder, comparison: Comparison, metric: Value) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for group in comparison.ranked:
        place = comparison.place(group[0])
        numbers, low, high = (place.value, place.value_low, place.value_high), place.place_low, place.place_high
        others = (other for other in comparison.ranked if other != group and not comparison.differ(group[0], other[0]))
        unclear = ", ".join(group_name(run, other) for other in others)
        value = Cell(with_interval(*numbers, metric.rounding), place.is_best, numbers)
        ends = numeric(low, f"{low}" if low == high else f"{low} to {high}")
        rows.append((Cell(group_name(run, group)), value, ends, Cell(unclear or NOTHING)))
    return rows


def _pairs(run: RunFolder, comparison: Comparison, metric: Value) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for pair in comparison.pairs.to_dict("records"):
        names = (Cell(group_name(run, comparison.group_of(pair[side]))) for side in ("first", "second"))
        counted = (pair[name] for name in ("n", "better", "same", "worse"))
        counts = (Cell(NOTHING) if pd.isna(number_of) else count(number_of) for number_of in counted)
        ends = (pair["difference"], pair["low"], pair["high"])
        difference = Cell(with_interval(*ends, metric.rounding), False, tuple(map(float, ends)))
        adjusted = numeric(pair["adjusted"], bold=pair["adjusted"] < LEVEL)
        shown = numeric(pair["detectable"], number(pair["detectable"], metric.rounding))
        rows.append((*names, *counts, difference, adjusted, numeric(pair["by_images"]), shown))
    return rows


def place_frame(run: RunFolder) -> pd.DataFrame:
    """All places of all metrics, for programs: the place, metric, method, images and those of `Place`."""
    parts = []
    for about, comparison in _comparisons(run):
        if run.metadata.value(about["metric"]).has_direction:
            places = comparison.places.rename_axis("method").reset_index()
            parts.append(places.assign(**about, images=comparison.images))
    return _joined(parts, [*Setting._fields, "metric", "method", "images", *Place._fields])


def pair_frame(run: RunFolder) -> pd.DataFrame:
    """All pairs of all metrics with a direction, for programs: the place and PAIR_COLUMNS. Methods that coincide stand
    under the first of them."""
    parts = [comparison.pairs.assign(**about) for about, comparison in _comparisons(run) if len(comparison.pairs)]
    return _joined(parts, [*Setting._fields, "metric", *PAIR_COLUMNS])


def _comparisons(run: RunFolder) -> Iterator[tuple[dict[str, str], Comparison]]:
    for setting in run.settings:
        for name in run.metrics:
            if (comparison := run.comparisons.of(setting, name)) is not None:
                yield {**setting._asdict(), "metric": name}, comparison


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where the run's
    `config.report.compare` names no method. Raises BenchError where the run has no such method."""
    control = options_of(run).compare
    if control is None:
        return
    title = run.metadata.method_title(control)
    header = ("Against", "Images", f"{title} better", "Same", "Worse", "Difference", "p", "p, Holm")
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        rows_of = {value: tuple(_paired_rows(run, tests[tests["metric"] == value.name])) for value in values}
        groups = tuple(Group(group_title(value), rows, value.name) for value, rows in rows_of.items() if rows)
        family, notes = f"{title} against the others", _paired_notes(title, tests)
        yield Table.of_setting(f"paired_{i}", family, run.label(setting), header, groups, notes)


def _paired_rows(run: RunFolder, tests: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    for test in tests.to_dict("records"):
        counts = (count(test[name]) for name in ("n", "better", "same", "worse"))
        numbers = (numeric(test[name]) for name in ("difference", "p"))
        adjusted = numeric(test["adjusted"], bold=test["adjusted"] < LEVEL)
        yield (Cell(run.metadata.method_title(test["method"])), *counts, *numbers, adjusted)


def _paired_notes(control: str, tests: pd.DataFrame) -> tuple[str, ...]:
    if tests.empty:
        return (f"{control} shares no value with another method here.",)
    return (
        "Images: those where both have a value; an image with several rows counts once, by its mean difference. "
        f"Better, same, worse: the images on which {control} is. Difference: of {control}'s mean, or median where the "
        "metric leads with it, minus the other's.",
        "p: of this difference, by a bootstrap over images; two-sided; none for fewer than "
        f"{FEWEST_IMAGES} images. p, Holm: adjusted for the rows of its metric in this table; bold below {LEVEL:g}. It "
        "says that a difference isn't chance, not that it is large.",
    )


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
    `config.report.compare`, one for each metric that has a direction. `warning_lines` come first."""
    measured = set(run.summary.loc[run.summary["method"] != METHOD_FREE, "metric"])
    names = [name for name in options_of(run).headline if name in measured]
    warnings, values = warning_lines(run), [run.metadata.value(name) for name in names[:MOST]]
    table = (
        [*_heading(values), *(line for at in run.settings for line in _of_setting(run, at, values))] if values else []
    )
    signs = [f"{sign} {meaning}" for sign, meaning in MEANINGS.items() if any(sign in line for line in table)]
    more = [f"{len(names) - MOST} more metrics in the report"] if len(names) > MOST else []
    note = ["; ".join([*signs, *more])] if signs or more else []
    note += control_notes(run, run.settings, names[:MOST], f"marked {BEST}")
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
            BEST * is_best + marked(number(row[lead], value.rounding) if row.get("n", 0) > 0 else NOTHING, row)
            for row, lead, is_best in summaries.of_methods(run, setting, rows, value, methods)
        ]
        for value in values
    ]
    for name, *cells in zip(methods, *columns, strict=True):
        yield _row(f"  {run.metadata.method_title(name)}", cells)


def _row(title: str, cells: Sequence[str]) -> str:
    title = title if len(title) < TITLE else f"{title[: TITLE - 4]}..."
    return f"{title:{TITLE}}{''.join(cell.rjust(COLUMN) for cell in cells)}".rstrip()
