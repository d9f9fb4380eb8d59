"""Tables of methods compared by image: one against every other, all pairs, and the place of each in each metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from axiom_bench.report.last_lines import compare_in
from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.report.tables.text import BOLD_NOTE, INTERVAL_NOTE, group_name, group_title, names_of
from axiom_bench.statistics.comparison import PAIR_COLUMNS, Comparison, Place
from axiom_bench.statistics.labels import NOTHING, Setting, Value, number, with_interval
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder

PLACES = "Places"
PLACES_HEADER = ("Method", "Value [95 %]", "Place", "Can't be told from")
PLACES_NOTES = (
    "Place: from 1 + the number of methods that are better to the number of methods - those that are worse, by the "
    f"tests of all pairs at {LEVEL:.0%} after Holm, so that all places of a metric hold together. Methods that "
    "coincide have one place. Values are over the rows that all compared methods have.",
    BOLD_NOTE,
    INTERVAL_NOTE,
)


def place_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting in which methods can be compared, one group for each metric with a direction."""
    for i, setting in enumerate(run.settings, start=1):
        values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
        groups = tuple(group for value in values if (group := _places(run, setting, value)) is not None)
        if groups and not run.metadata.has_random_weights(setting.model):
            label = run.label(setting)
            yield Table(
                f"places_{i}",
                f"{PLACES}, {label}",
                PLACES_HEADER,
                groups,
                PLACES_NOTES,
                text_last=True,
                family=PLACES,
                label=label,
            )


def place_frame(run: RunFolder) -> pd.DataFrame:
    """All places of all metrics, for programs: the place, metric, method, images and those of `Place`."""
    parts = []
    for setting in run.settings:
        for name in run.metrics:
            comparison = run.comparisons.of(setting, name)
            if comparison is not None and run.metadata.value(name).has_direction:
                table = comparison.places.rename_axis("method").reset_index()
                parts.append(table.assign(**setting._asdict(), metric=name, images=comparison.images))
    columns = [*Setting._fields, "metric", "method", "images", *Place._fields]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _places(run: RunFolder, setting: Setting, value: Value) -> Group | None:
    comparison = run.comparisons.of(setting, value.name)
    if comparison is None:
        return None
    rows = tuple(_place_row(run, comparison, group) for group in comparison.ranked)
    notes = {"0 by its own formula": comparison.by_construction, "too few values": comparison.left_out}
    without = "".join(f"; without {names_of(run, names)}, {why}" for why, names in notes.items() if names)
    return Group(group_title(value, comparison.of_whole_set) + without, rows, value.name)


def _place_row(run: RunFolder, comparison: Comparison, group: tuple[str, ...]) -> tuple[Cell, ...]:
    place = comparison.place(group[0])
    numbers, low, high = (place.value, place.value_low, place.value_high), place.place_low, place.place_high
    others = (other for other in comparison.ranked if other != group and not comparison.differ(group[0], other[0]))
    unclear = ", ".join(group_name(run, other) for other in others)
    return (
        Cell(group_name(run, group)),
        Cell(with_interval(*numbers), place.is_best, numbers),
        numeric(low, f"{low}" if low == high else f"{low} to {high}"),
        Cell(unclear or NOTHING),
    )


PAIRS = "All pairs of methods"
PAIRS_HEADER = (
    "Method", "Against", "Images", "Better", "Same", "Worse", "Difference [95 %]", "Effect", "p, Holm", "Shown from",
)  # fmt: skip
PAIRS_NOTES = (
    "Images: those that all compared methods have; an image with several rows counts once, by its mean difference. "
    "Better, same, worse: on how many of them the first method is; equal but for float32's rounding is the same. "
    "Difference: the first minus the second, the median over rows where the metric leads with it, else the mean.",
    "Effect: the matched-pairs rank-biserial correlation, 1 where the first method is better on every image and -1 "
    "where it is worse. p, Holm: of Wilcoxon's signed-rank test by image, for values that are 0 or 1 of the exact "
    f"sign test, adjusted for all pairs of its metric here; bold below {LEVEL:g}.",
    "Shown from: the smallest difference that so many images would have shown with a probability of 80 %, from the "
    "spread of these differences (docs/statistics.md). Methods that coincide are one.",
)


def pair_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting with pairs; all metrics are in pairs.csv."""
    values = [value for value in map(run.metadata.value, options_of(run).headline) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        groups = tuple(group for value in values if (group := _pairs(run, setting, value)) is not None)
        if groups and not run.metadata.has_random_weights(setting.model):
            label = run.label(setting)
            title = f"{PAIRS}, {label}"
            yield Table(
                f"pairs_{i}", title, PAIRS_HEADER, groups, PAIRS_NOTES, text_columns=2, family=PAIRS, label=label
            )


def pair_frame(run: RunFolder) -> pd.DataFrame:
    """All pairs of all metrics with a direction, for programs: the place and PAIR_COLUMNS. Methods that coincide stand
    under the first of them."""
    parts = []
    for setting in run.settings:
        for name in run.metrics:
            comparison = run.comparisons.of(setting, name)
            if comparison is not None and len(comparison.pairs):
                parts.append(comparison.pairs.assign(**setting._asdict(), metric=name))
    columns = [*Setting._fields, "metric", *PAIR_COLUMNS]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _pairs(run: RunFolder, setting: Setting, value: Value) -> Group | None:
    comparison = run.comparisons.of(setting, value.name) if value.name in run.metrics else None
    if comparison is None or comparison.pairs.empty:
        return None
    rows = tuple(_pair_row(run, comparison, pair) for pair in comparison.pairs.to_dict("records"))
    constructed = comparison.by_construction
    without = f"; without {names_of(run, constructed)}, 0 by its own formula" if constructed else ""
    return Group(group_title(value, comparison.of_whole_set) + without, rows, value.name)


def _pair_row(run: RunFolder, comparison: Comparison, pair: Mapping[Any, Any]) -> tuple[Cell, ...]:
    names = (Cell(group_name(run, comparison.group_of(pair[side]))) for side in ("first", "second"))
    counts = (Cell(NOTHING) if pd.isna(pair[name]) else count(pair[name]) for name in ("n", "better", "same", "worse"))
    ends = (pair["difference"], pair["low"], pair["high"])
    effect = Cell(NOTHING) if comparison.of_whole_set else numeric(pair["effect"], f"{pair['effect']:.2f}")
    adjusted = numeric(pair["adjusted"], bold=pair["adjusted"] < LEVEL)
    return (*names, *counts, Cell(with_interval(*ends), False, tuple(map(float, ends))), effect, adjusted,
            numeric(pair["detectable"], number(pair["detectable"])))  # fmt: skip


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where the run's
    `config.report.compare` names no method. Raises BenchError where the run has no such method."""
    control = options_of(run).compare
    if control is None:
        return
    title_of_control = run.metadata.method_title(control)
    header = ("Against", "Images", f"{title_of_control} better", "Same", "Worse", "Median difference", "p", "p, Holm")
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        rows_of = {value: tuple(_paired_rows(run, tests[tests["metric"] == value.name])) for value in values}
        groups = tuple(Group(group_title(value), rows, value.name) for value, rows in rows_of.items() if rows)
        title, label, notes = (
            f"{title_of_control} against the others",
            run.label(setting),
            _paired_notes(title_of_control, tests),
        )
        yield Table(f"paired_{i}", f"{title}, {label}", header, groups, notes, family=title, label=label)


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
        f"Better, same, worse: the images on which {control} is. Median difference: of {control} minus the other.",
        "p: Wilcoxon's signed-rank test over the images that differ, for values that are 0 or 1 the exact sign test; "
        f"two-sided. p, Holm: adjusted for the rows of its metric in this table; bold below {LEVEL:g}. It says "
        "that a difference isn't chance, not that it is large.",
    )
