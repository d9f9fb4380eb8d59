"""Texts of cells, headings and notes, the same in all tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from axiom_bench.report.numbers import NOTHING, PLUS_MINUS, counts_text, number, with_error
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Value, rows_at
from axiom_bench.report.statistics import whole_set as whole_sets
from axiom_bench.report.statistics.best import on_common_images
from axiom_bench.report.statistics.summary import counts_of
from axiom_bench.report.tables.table import Cell

ARROWS = {"lower": "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}", "higher": "\N{NO-BREAK SPACE}\N{UPWARDS ARROW}"}
PARTIAL = "\N{DAGGER}"
PARTIAL_NOTE = (
    f"{PARTIAL} fewer images or rows than another method has. Bold is then the best on those that all compared methods "
    "have (values: table of all metrics); a method that lacks more than a tenth isn't compared. In common:"
)
LAYER_ALONE = "(layer alone)"
MAX_NOTES = 8
ERROR_NOTE = (
    "Standard errors are by image, all rows of an image together: of the mean over rows, from the images' sums."
)
WHOLE_SET_NOTE = (
    "Those of values of the whole data set are by image too: the standard deviation over the run's resamples of the "
    "images (bootstrap)."
)


def name_of(method: str) -> str:
    """The method as a table names it; a method-free metric belongs to the layer alone."""
    return LAYER_ALONE if method == METHOD_FREE else method


def heading(value: Value, whole_set: bool = False) -> str:
    """A wide table's column, in two lines: "Conservation error", "median (mean) ↓"; the arrow points to the better.

    whole_set: the column holds values of the whole data set.
    """
    statistic = "median (mean)" if value.lead == "median" else f"mean {PLUS_MINUS} s.e."
    statistic = f"whole data set {PLUS_MINUS} s.e." if whole_set else statistic
    return f"{value.title}\n{statistic}{ARROWS.get(value.better, '')}"


def group_title(value: Value, whole_set: bool = False) -> str:
    """A long table's group of rows: "Conservation error [ratio], lower is better"."""
    unit = f" [{value.unit}]" if value.unit and value.unit not in value.title else ""
    direction = f", {value.better} is better" if value.better in ARROWS else ""
    return value.title + (" of the whole data set" if whole_set else "") + unit + direction


def statistic(row: pd.Series, lead: str) -> str:
    """A summary row's leading statistic, with the other beside it: "0.120 (0.340)" or "0.120 ± 0.012"."""
    if not row.get("n", 0) > 0:
        return NOTHING
    if lead == "median":
        return f"{number(row['median'])} ({number(row['mean'])})"
    return with_error(row["mean"], row["standard_error"])


def statistic_cell(row: pd.Series, lead: str, bold: bool = False) -> Cell:
    """`statistic`, marked, with its numbers."""
    numbers = (row["median"], row["mean"]) if lead == "median" else (row["mean"], row["standard_error"])
    known = tuple(float(value) for value in numbers) if row.get("n", 0) > 0 else ()
    return Cell(marked(statistic(row, lead), row), bold, tuple(value for value in known if math.isfinite(value)))


def marked(text: str, row: pd.Series) -> str:
    """The text of a value with a mark where the method has fewer rows than another method of the metric."""
    return text + PARTIAL if text != NOTHING and row.get("partial") == True else text  # noqa: E712 - it may be NaN


def common_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """What the mark means, and how many images decide which method is best, for each metric with such values."""
    labels_of: dict[str, list[str]] = {}
    for setting in run.settings:
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            if on_common_images(rows):
                labels_of.setdefault(f"{value.title} {_common(rows)}", []).append(run.label(setting))
    if not labels_of:
        return []
    several = summary[["model", "layer", "data"]].drop_duplicates().shape[0] > 1
    parts = (f"{text} ({_listed(labels)})" if several else text for text, labels in labels_of.items())
    return [f"{PARTIAL_NOTE} {'; '.join(parts)}."]


def _common(rows: pd.DataFrame) -> str:
    """ "n = 60 images, 112 rows, without random": the images that all compared methods have, and who isn't compared."""
    compared = rows[rows["compared"]]
    others = ", ".join(rows.loc[(rows["n"] > 0) & ~rows["compared"], "method"])
    counts = counts_text(compared["common_images"], compared["common_n"]) if len(compared) else "none"
    return f"{counts}, without {others}" if others else counts


def error_notes(run: RunFolder, has_whole_set: bool) -> Iterator[str]:
    """What the standard errors of a table are, and which of them the run must compute."""
    yield f"{ERROR_NOTE} {WHOLE_SET_NOTE}" if has_whole_set else ERROR_NOTE
    if has_whole_set:
        yield from whole_sets.problems(run)


def other_statuses(statuses: str) -> str:
    """The counts of what isn't ok, added up: "ok:3 zero_map:1 ok:2 zero_map:1" -> "zero_map 2"; a dash for none."""
    total: dict[str, int] = {}
    for pair in statuses.split():
        for name, count in counts_of(pair).items():
            total[name] = total.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in total.items() if name != "ok") or NOTHING


def methods_by_status(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """(status other than ok, "3 of 120") -> the methods with it, of one metric's summary rows."""
    methods: dict[tuple[str, str], tuple[str, ...]] = {}
    for row in rows.to_dict("records"):
        for status, count in counts_of(row["statuses"]).items():
            if status != "ok":
                key = (status, f"{count} of {row['rows']}")
                methods[key] = (*methods.get(key, ()), name_of(str(row["method"])))
    return methods


def by_metric(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Value, bool, pd.DataFrame]]:
    """(metric, is it of the whole data set, its rows), in the manifest's order; the whole data set's come first."""
    for name in run.metrics:
        for whole_set in (True, False):
            rows = summary[(summary["metric"] == name) & (summary["whole_set"] == whole_set)]
            if len(rows):
                yield run.value(name), whole_set, rows


def status_notes(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """One sentence for each metric and methods where rows aren't ok: the reason for a smaller count, or a dash."""
    labels_of: dict[str, list[str]] = {}
    for setting in run.settings:
        titles_of: dict[tuple[str, ...], list[str]] = {}
        for value, _, rows in by_metric(run, rows_at(summary, setting)):
            for (status, count), names in methods_by_status(rows).items():
                titles_of.setdefault((f"{status} {count}", *names), []).append(value.title)
        for (status, *methods), titles in titles_of.items():
            labels_of.setdefault(f"{_listed(titles)} of {_listed(methods)}: {status}.", []).append(run.label(setting))
    notes = [
        sentence if len(labels) == len(run.settings) else f"{_listed(labels)}: {sentence}"
        for sentence, labels in labels_of.items()
    ]
    more = len(notes) - MAX_NOTES
    return notes if more <= 0 else [*notes[:MAX_NOTES], f"{more} more such notes: see the table of statuses."]


def metric_notes(values: Iterable[Value]) -> list[str]:
    """The notes of the metrics' YAML files, each once."""
    titles: dict[str, list[str]] = {}
    for value in values:
        if value.note:
            titles.setdefault(value.note, []).append(value.title)
    return [f"{_listed(names)}: {note}" for note, names in titles.items()]


def target_note(rule: str) -> str:
    """What "correct" means under each target rule."""
    if rule == "each_label":
        return (
            "Each image has one row for every class that it shows: a row is correct where the explained class is the "
            "predicted one, so that an image with several classes has at most one correct row."
        )
    if rule == "predicted":
        return "The explained class is the predicted one, so that every row counts as correct."
    return "Correct: the labelled class, which is explained, is the predicted one."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
