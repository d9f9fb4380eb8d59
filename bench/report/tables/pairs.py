"""All pairs of methods of the headline metrics: who is better, on how many images, by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.report.tables.text import group_name, group_title, names_of
from axiom_bench.statistics.comparison import PAIR_COLUMNS, Comparison
from axiom_bench.statistics.metadata import Setting, Value
from axiom_bench.statistics.numbers import NOTHING, number, with_interval
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "All pairs of methods"
HEADER = (
    "Method", "Against", "Images", "Better", "Same", "Worse", "Difference [95 %]", "Effect", "p, Holm", "Shown from",
)  # fmt: skip
NOTES = (
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
        groups = tuple(group for value in values if (group := _group(run, setting, value)) is not None)
        if groups and not run.metadata.has_random_weights(setting.model):
            label = run.label(setting)
            title = f"{TITLE}, {label}"
            yield Table(f"pairs_{i}", title, HEADER, groups, NOTES, text_columns=2, family=TITLE, label=label)


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


def _group(run: RunFolder, setting: Setting, value: Value) -> Group | None:
    comparison = run.comparisons.of(setting, value.name) if value.name in run.metrics else None
    if comparison is None or comparison.pairs.empty:
        return None
    rows = tuple(_row(run, comparison, pair) for pair in comparison.pairs.to_dict("records"))
    constructed = comparison.by_construction
    without = f"; without {names_of(run, constructed)}, 0 by its own formula" if constructed else ""
    return Group(group_title(value, comparison.of_whole_set) + without, rows, value.name)


def _row(run: RunFolder, comparison: Comparison, pair: Mapping[Any, Any]) -> tuple[Cell, ...]:
    names = (Cell(group_name(run, comparison.group_of(pair[side]))) for side in ("first", "second"))
    counts = (Cell(NOTHING) if pd.isna(pair[name]) else count(pair[name]) for name in ("n", "better", "same", "worse"))
    ends = (pair["difference"], pair["low"], pair["high"])
    effect = Cell(NOTHING) if comparison.of_whole_set else numeric(pair["effect"], f"{pair['effect']:.2f}")
    adjusted = numeric(pair["adjusted"], bold=pair["adjusted"] < LEVEL)
    return (*names, *counts, Cell(with_interval(*ends), False, tuple(map(float, ends))), effect, adjusted,
            numeric(pair["detectable"], number(pair["detectable"])))  # fmt: skip
