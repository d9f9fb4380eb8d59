"""Tables of comparisons of methods: their places, all pairs, and one method against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import Cell, Group, Table, count, interval, numeric
from axiom_bench.report.tables.text import (
    BOLD_NOTE,
    INTERVAL_NOTE,
    compare_in,
    control_notes,
    group_title,
    names_of,
)
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.comparison import PAIR_COLUMNS, Comparison, Place
from axiom_bench.statistics.labels import NOTHING, Setting, Value, number
from axiom_bench.statistics.paired_tests import LEVEL
from axiom_bench.statistics.ranking import group_name
from axiom_bench.statistics.run_folder import RunFolder

Rows = Callable[[RunFolder, Comparison, Value], Iterator[tuple[Cell, ...]]]
PLACES = "Places"
PLACES_HEADER = ("Method", "Value [95 %]", "Place", "Not significantly different from")
PLACES_NOTES = (
    "Place: from 1 + the number of methods that are better to the number of methods - those that "
    f"are worse, by the tests of all pairs at {LEVEL:.0%} after Holm. So all places of a metric "
    "hold together. Methods that coincide have one place. Values are over the rows that all "
    "compared methods have.",
    BOLD_NOTE,
    INTERVAL_NOTE,
)
PAIRS = "All pairs of methods"
PAIRS_HEADER = (
    "Method", "Against", "Images", "Better", "Same", "Worse", "Difference [95 %]", "p, Holm", "Images' p, Holm",
    "Shown from",
)  # fmt: skip
PAIRS_NOTES = (
    "Images: those that all compared methods have. Difference: of the two methods' means, or "
    "medians where the metric leads with it, the first minus the second. p, Holm: of this "
    "difference, from the same bootstrap over images as its interval, adjusted for all pairs of "
    f"its metric here; bold below {LEVEL:g}.",
    "Better, same, worse: on how many images the first method is; an image with several rows "
    "counts once, by its mean difference; equal but for rounding is the same. Images' p, Holm: of "
    "the sign test of these numbers; they may say the opposite of the difference, where a few "
    "images or one with many rows decide it.",
    "Shown from: the smallest difference that so many images would have shown with a probability "
    "of 80 %, by the interval's width (docs/statistics.md). Methods that coincide are one.",
)


def place_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting in which methods can be compared, one group for each metric with a
    direction.
    """
    for place, setting, groups in _compared(run, run.metrics, _places):
        notes = (*PLACES_NOTES, *control_notes(run, [setting], run.metrics))
        label = run.label(setting)
        yield Table.of_setting(
            f"places_{place}", PLACES, label, PLACES_HEADER, groups, notes, text_last=True
        )


def pair_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting with pairs; all metrics are in pairs.csv."""
    for place, setting, groups in _compared(run, options_of(run).headline, _pairs):
        yield Table.of_setting(
            f"pairs_{place}", PAIRS, run.label(setting), PAIRS_HEADER, groups, PAIRS_NOTES, 2
        )


def _compared(
    run: RunFolder, metrics: Iterable[str], rows_of: Rows
) -> Iterator[tuple[int, Setting, tuple[Group, ...]]]:
    """(number, setting, a group of rows for each of the metrics with a direction), where one that
    ranks has any.
    """
    values = [
        value
        for value in map(run.metadata.value, metrics)
        if value.has_direction and value.name in run.metrics
    ]
    for i, setting in enumerate(run.settings, start=1):
        groups = []
        for value in values:
            comparison = run.comparisons.of(setting, value.name)
            if comparison is not None and (rows := tuple(rows_of(run, comparison, value))):
                left_out = {"0 by construction": comparison.by_construction}
                left_out |= {"too few values": comparison.left_out} if rows_of is _places else {}
                without = (
                    f"; without {names_of(run, names)}, {why}"
                    for why, names in left_out.items()
                    if names
                )
                title = group_title(value, comparison.of_whole_set) + "".join(without)
                groups.append(Group(title, rows, value.name))
        if groups and run.ranks(setting):
            yield i, setting, tuple(groups)


def _places(run: RunFolder, comparison: Comparison, metric: Value) -> Iterator[tuple[Cell, ...]]:
    for group in comparison.ranked:
        place = comparison.place(group[0])
        value = interval(
            place.value, place.value_low, place.value_high, metric.rounding, place.is_best
        )
        ends = " to ".join(dict.fromkeys((f"{place.place_low}", f"{place.place_high}")))
        others = (
            other
            for other in comparison.ranked
            if other != group and not comparison.differ(group[0], other[0])
        )
        unclear = ", ".join(group_name(run, other) for other in others)
        yield (
            Cell(group_name(run, group)),
            value,
            numeric(place.place_low, ends),
            Cell(unclear or NOTHING),
        )


def _pairs(run: RunFolder, comparison: Comparison, metric: Value) -> Iterator[tuple[Cell, ...]]:
    for pair in comparison.pairs.to_dict("records"):
        yield (
            *(
                Cell(group_name(run, comparison.group_of(pair[side])))
                for side in ("first", "second")
            ),
            *(count(pair[name]) for name in ("n", "better", "same", "worse")),
            interval(pair["difference"], pair["low"], pair["high"], metric.rounding),
            numeric(pair["adjusted"], bold=pair["adjusted"] < LEVEL),
            numeric(pair["by_images"]),
            numeric(pair["detectable"], number(pair["detectable"], metric.rounding)),
        )


def place_frame(run: RunFolder) -> pd.DataFrame:
    """All places of all metrics, for programs: the place, metric, method, images and those of
    `Place`.
    """
    parts = [
        comparison.places.rename_axis("method")
        .reset_index()
        .assign(**about, images=comparison.images)
        for about, comparison in _comparisons(run)
        if run.metadata.value(about["metric"]).has_direction
    ]
    return _joined(parts, [*Setting._fields, "metric", "method", "images", *Place._fields])


def pair_frame(run: RunFolder) -> pd.DataFrame:
    """All pairs of all metrics with a direction, for programs: the place and PAIR_COLUMNS. Methods
    that coincide stand under the first of them.
    """
    parts = [
        comparison.pairs.assign(**about)
        for about, comparison in _comparisons(run)
        if len(comparison.pairs)
    ]
    return _joined(parts, [*Setting._fields, "metric", *PAIR_COLUMNS])


def _comparisons(run: RunFolder) -> Iterator[tuple[dict[str, str], Comparison]]:
    for setting in run.settings:
        for name in run.metrics:
            if (comparison := run.comparisons.of(setting, name)) is not None:
                yield {**setting._asdict(), "metric": name}, comparison


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric with a direction; none where
    the run's `config.report.compare` names no method. Raises BenchError where the run has no such
    method.
    """
    control = options_of(run).compare
    if control is None:
        return
    title = run.metadata.method_title(control)
    header = ("Against", "Images", f"{title} better", "Same", "Worse", "Difference", "p", "p, Holm")
    notes = (
        "Images: those where both have a value; an image with several rows counts once, by its "
        f"mean difference. Better, same, worse: the images on which {title} is. Difference: of "
        f"{title}'s mean, or median where the metric leads with it, minus the other's.",
        "p: of this difference, by a bootstrap over images; two-sided; none for fewer than "
        f"{FEWEST_IMAGES} images. p, Holm: adjusted for the rows of its metric in this table; "
        f"bold below {LEVEL:g}. It says that a difference isn't chance, not that it is large.",
    )
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        rows_of = {
            value: tuple(_paired_rows(run, tests[tests["metric"] == value.name]))
            for value in values
        }
        groups = tuple(
            Group(group_title(value), rows, value.name) for value, rows in rows_of.items() if rows
        )
        below = notes if len(tests) else (f"{title} shares no value with another method here.",)
        family = f"{title} against the others"
        yield Table.of_setting(f"paired_{i}", family, run.label(setting), header, groups, below)


def _paired_rows(run: RunFolder, tests: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    for test in tests.to_dict("records"):
        counts = (count(test[name]) for name in ("n", "better", "same", "worse"))
        numbers = (numeric(test[name]) for name in ("difference", "p"))
        adjusted = numeric(test["adjusted"], bold=test["adjusted"] < LEVEL)
        yield (Cell(run.metadata.method_title(test["method"])), *counts, *numbers, adjusted)
