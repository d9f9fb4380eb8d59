"""The place of each method in each metric, as far as the images tell: an interval of ranks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, numeric
from axiom_bench.report.tables.text import BOLD_NOTE, INTERVAL_NOTE, group_name, group_title, names_of
from axiom_bench.statistics.comparison import Comparison, Place
from axiom_bench.statistics.metadata import Setting, Value
from axiom_bench.statistics.numbers import NOTHING, with_interval
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "Places"
HEADER = ("Method", "Value [95 %]", "Place", "Can't be told from")
NOTES = (
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
        groups = tuple(group for value in values if (group := _group(run, setting, value)) is not None)
        if groups and not run.metadata.has_random_weights(setting.model):
            label = run.label(setting)
            yield Table(
                f"places_{i}", f"{TITLE}, {label}", HEADER, groups, NOTES, text_last=True, family=TITLE, label=label
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


def _group(run: RunFolder, setting: Setting, value: Value) -> Group | None:
    comparison = run.comparisons.of(setting, value.name)
    if comparison is None:
        return None
    rows = tuple(_row(run, comparison, group) for group in comparison.ranked)
    notes = {"0 by its own formula": comparison.by_construction, "too few values": comparison.left_out}
    without = "".join(f"; without {names_of(run, names)}, {why}" for why, names in notes.items() if names)
    return Group(group_title(value, comparison.of_whole_set) + without, rows, value.name)


def _row(run: RunFolder, comparison: Comparison, group: tuple[str, ...]) -> tuple[Cell, ...]:
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
