"""What the tables' cells, headings and notes say, the same in all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from axiom_bench.report.numbers import NOTHING, PLUS_MINUS, number, with_error
from axiom_bench.report.run_folder import METHOD_FREE, RunFolder, Value
from axiom_bench.report.summary import at, counts_of

ARROWS = {"lower": "\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}", "higher": "\N{NO-BREAK SPACE}\N{UPWARDS ARROW}"}
LAYER = "(layer alone)"
MOST_NOTES = 8


def name_of(method: str) -> str:
    """The method as a table names it; a method-free metric belongs to the layer alone."""
    return LAYER if method == METHOD_FREE else method


def heading(value: Value, whole_set: bool = False) -> str:
    """A wide table's column, in two lines: "Conservation error", "median (mean) ↓"; the arrow points to the better.

    whole_set: the column holds values of the whole data set.
    """
    beside = "median (mean)" if value.lead == "median" else f"mean {PLUS_MINUS} s.e."
    beside = f"whole data set {PLUS_MINUS} s.e." if whole_set else beside
    return f"{value.title}\n{beside}{ARROWS.get(value.better, '')}"


def group_title(value: Value, whole_set: bool = False) -> str:
    """A long table's group of rows: "Conservation error [ratio], lower is better"."""
    unit = f" [{value.unit}]" if value.unit and value.unit not in value.title else ""
    direction = f", {value.better} is better" if value.better in ARROWS else ""
    return value.title + (" of the whole data set" if whole_set else "") + unit + direction


def statistic(one: pd.Series, lead: str) -> str:
    """A summary row's leading statistic, with the other one beside it: "0.120 (0.340)" or "0.120 ± 0.012"."""
    if not one.get("n", 0) > 0:
        return NOTHING
    if lead == "median":
        return f"{number(one['median'])} ({number(one['mean'])})"
    return with_error(one["mean"], one["standard_error"])


def other_statuses(statuses: str) -> str:
    """The counts of what isn't ok, added up: "ok:3 zero_map:1 ok:2 zero_map:1" -> "zero_map 2"; a dash for none."""
    total: dict[str, int] = {}
    for pair in statuses.split():
        for name, count in counts_of(pair).items():
            total[name] = total.get(name, 0) + count
    return ", ".join(f"{name} {count}" for name, count in total.items() if name != "ok") or NOTHING


def methods_by_status(rows: pd.DataFrame) -> dict[tuple[str, str], tuple[str, ...]]:
    """(status other than ok, "3 of 120") -> the methods with it, of one metric's summary rows."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for one in rows.to_dict("records"):
        for status, count in counts_of(one["statuses"]).items():
            if status != "ok":
                key = (status, f"{count} of {one['rows']}")
                found[key] = (*found.get(key, ()), name_of(str(one["method"])))
    return found


def by_metric(run: RunFolder, here: pd.DataFrame) -> Iterator[tuple[Value, bool, pd.DataFrame]]:
    """(metric, is it of the whole data set, its rows), in the order of the manifest."""
    for name in run.metrics:
        for whole_set in (False, True):
            rows = here[(here["metric"] == name) & (here["whole_set"] == whole_set)]
            if len(rows):
                yield run.value(name), whole_set, rows


def status_notes(run: RunFolder, shown: pd.DataFrame) -> list[str]:
    """One sentence for each metric and methods where rows aren't ok: what stands behind a smaller n, or a dash."""
    where: dict[str, list[str]] = {}
    for setting in run.settings:
        same: dict[tuple[str, ...], list[str]] = {}
        for value, _, rows in by_metric(run, at(shown, setting)):
            for (status, count), names in methods_by_status(rows).items():
                same.setdefault((f"{status} {count}", *names), []).append(value.title)
        for (said, *methods), titles in same.items():
            where.setdefault(f"{_listed(titles)} of {_listed(methods)}: {said}.", []).append(run.label(setting))
    notes = [
        sentence if len(labels) == len(run.settings) else f"{_listed(labels)}: {sentence}"
        for sentence, labels in where.items()
    ]
    more = len(notes) - MOST_NOTES
    return notes if more <= 0 else [*notes[:MOST_NOTES], f"{more} more such notes: see the table of statuses."]


def metric_notes(values: Iterable[Value]) -> list[str]:
    """What a metric's YAML says a reader must know, once for each sentence."""
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
