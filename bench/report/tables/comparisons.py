"""Tables that compare methods: their places, all pairs, and one method against the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.tables.table import (
    Cell,
    Group,
    Table,
    count_cell,
    interval_cell,
    number_cell,
)
from axiom_bench.report.tables.text import (
    bold_note,
    compare_in,
    control_notes,
    group_title,
    interval_note,
    names_of,
)
from axiom_bench.statistics.bootstrap import FEWEST_IMAGES
from axiom_bench.statistics.comparison import PAIR_COLUMNS, Comparison, Place
from axiom_bench.statistics.labels import NOTHING, Setting, Value, confidence, number, percent
from axiom_bench.statistics.ranking import group_name
from axiom_bench.statistics.run_folder import RunFolder

Rows = Callable[[RunFolder, Comparison, Value], Iterator[tuple[Cell, ...]]]
PLACES = "Places"
PAIRS = "All pairs of methods"
PAIRS_NOTES = (
    "Better, same, worse: on how many images the first method is; an image with several rows "
    "counts once, by its mean difference; equal up to rounding is the same. Images' p, Holm: of "
    "the sign test of these numbers; they may say the opposite of the difference, if a few "
    "images or one with many rows decide it.",
    "Shown from: the smallest difference that this number of images would have shown with a "
    "probability of 80 %, by the interval's width (docs/statistics.md). Methods that "
    "coincide are one.",
)


def place_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each setting in which methods can be compared. It has one group for each
    metric with a direction.
    """
    header = (
        "Method",
        f"Value [{confidence(run.level)}]",
        "Place",
        "Not significantly different from",
    )
    rule = (
        "Place: from 1 + the number of methods that are better to the number of methods - those "
        f"that are worse, by the tests of all pairs at {percent(run.level)} after Holm. So all "
        "places of a metric hold together. Methods that coincide have one place. Values are over "
        "the rows that all compared methods have."
    )
    for i, setting, groups in _groups_by_setting(run, run.metrics, _places):
        notes = (
            rule,
            bold_note(run.level),
            interval_note(run.level),
            *control_notes(run, [setting], run.metrics),
        )
        label = run.label(setting)
        yield Table.of_setting(f"places_{i}", PLACES, label, header, groups, notes, text_last=True)


def pair_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each setting with pairs, of the headline's metrics. All metrics are in
    pairs.csv.
    """
    header = (
        "Method",
        "Against",
        "Images",
        "Better",
        "Same",
        "Worse",
        f"Difference [{confidence(run.level)}]",
        "p, Holm",
        "Images' p, Holm",
        "Shown from",
    )
    about_difference = (
        "Images: those that all compared methods have. Difference: of the two methods' means, or "
        "medians if the metric leads with them, the first minus the second. p, Holm: of this "
        "difference, from the same bootstrap over images as its interval, adjusted for all pairs "
        f"of its metric here; bold below {run.level:g}."
    )
    notes = (about_difference, *PAIRS_NOTES)
    for i, setting, groups in _groups_by_setting(run, options_of(run).headline, _pairs):
        label = run.label(setting)
        yield Table.of_setting(f"pairs_{i}", PAIRS, label, header, groups, notes, 2)


def _groups_by_setting(
    run: RunFolder, metrics: Iterable[str], rows_of: Rows
) -> Iterator[tuple[int, Setting, tuple[Group, ...]]]:
    """Yield (number, setting, a group of rows for each of the metrics with a direction) for every
    setting that ranks methods and has such rows. The tables of places and of pairs are made of
    them.
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
            if comparison is None:
                continue
            rows = tuple(rows_of(run, comparison, value))
            if not rows:
                continue
            title = group_title(value, comparison.is_whole_set)
            left_out = {"0 by construction": comparison.by_construction}
            if rows_of is _places:
                left_out["too few values"] = comparison.left_out
            for reason, names in left_out.items():
                if names:
                    title += f"; without {names_of(run, names)}, {reason}"
            groups.append(Group(title, rows, value.name))
        # a network that names images by chance has comparisons, but its values rank no method
        if groups and run.ranks_methods(setting):
            yield i, setting, tuple(groups)


def _places(run: RunFolder, comparison: Comparison, metric: Value) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each group of methods that coincide: its value, its range of places, and the
    groups from which it doesn't differ significantly.
    """
    for group in comparison.ranked:
        place = comparison.place(group[0])
        value = interval_cell(
            place.value, place.value_low, place.value_high, metric.rounding, place.is_best
        )
        places = dict.fromkeys([str(place.place_low), str(place.place_high)])
        ends = " to ".join(places)  # one number if both ends are the same
        similar_names = [
            group_name(run, other)
            for other in comparison.ranked
            if other != group and not comparison.is_significant(group[0], other[0])
        ]
        yield (
            Cell(group_name(run, group)),
            value,
            number_cell(place.place_low, ends),
            Cell(", ".join(similar_names) or NOTHING),
        )


def _pairs(run: RunFolder, comparison: Comparison, metric: Value) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each pair of methods."""
    for pair in comparison.pairs.to_dict("records"):
        names = [group_name(run, comparison.group_of(pair[side])) for side in ("first", "second")]
        counts = [pair[column] for column in ("n", "better", "same", "worse")]
        yield (
            *map(Cell, names),
            *map(count_cell, counts),
            interval_cell(pair["difference"], pair["low"], pair["high"], metric.rounding),
            number_cell(pair["adjusted"], bold=pair["adjusted"] < run.level),
            number_cell(pair["by_images"]),
            number_cell(pair["detectable"], number(pair["detectable"], metric.rounding)),
        )


def place_frame(run: RunFolder) -> pd.DataFrame:
    """Return all places of all metrics with a direction, for programs: setting, metric, method,
    images and the fields of `Place`.
    """
    parts = []
    for keys, comparison in _comparisons(run):
        if run.metadata.value(keys["metric"]).has_direction:
            places = comparison.places.rename_axis("method").reset_index()
            parts.append(places.assign(**keys, images=comparison.images))
    return _joined(parts, [*Setting._fields, "metric", "method", "images", *Place._fields])


def pair_frame(run: RunFolder) -> pd.DataFrame:
    """Return all pairs of all metrics with a direction, for programs: setting, metric and
    PAIR_COLUMNS. Methods that coincide have the name of the first of them.
    """
    parts = [
        comparison.pairs.assign(**keys)
        for keys, comparison in _comparisons(run)
        if len(comparison.pairs)
    ]
    return _joined(parts, [*Setting._fields, "metric", *PAIR_COLUMNS])


def _comparisons(run: RunFolder) -> Iterator[tuple[dict[str, str], Comparison]]:
    """Yield (setting's fields and metric, comparison) of all settings and metrics that have one."""
    for setting in run.settings:
        for name in run.metrics:
            if (comparison := run.comparisons.of(setting, name)) is not None:
                yield {**setting._asdict(), "metric": name}, comparison


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Concatenate tables with these columns; without tables, return an empty one."""
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def paired_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each setting, with one group of rows for each metric with a direction. If
    the run's `config.report.compare` names no method, there are none.

    Raises:
        BenchError: If the run has no such method.
    """
    control = options_of(run).compare
    if control is None:
        return
    title = run.metadata.method_title(control)
    header = ("Against", "Images", f"{title} better", "Same", "Worse", "Difference", "p", "p, Holm")
    notes = (
        "Images: those on which both have a value; an image with several rows counts once, by its "
        f"mean difference. Better, same, worse: the images on which {title} is. Difference: of "
        f"{title}'s mean, or median if the metric leads with it, minus the other's.",
        "p: of this difference, by a bootstrap over images; two-sided; none for fewer than "
        f"{FEWEST_IMAGES} images. p, Holm: adjusted for the rows of its metric in this table; "
        f"bold below {run.level:g}. It says that a difference isn't chance, not that it is large.",
    )
    # A metric without a direction has no better method to test for.
    values = [value for value in map(run.metadata.value, run.metrics) if value.has_direction]
    for i, setting in enumerate(run.settings, start=1):
        tests = compare_in(run, setting, control, values)
        groups = []
        for value in values:
            rows = tuple(_paired_rows(run, tests[tests["metric"] == value.name]))
            if rows:
                groups.append(Group(group_title(value), rows, value.name))
        yield Table.of_setting(
            f"paired_{i}",
            f"{title} against the others",
            run.label(setting),
            header,
            tuple(groups),
            notes if len(tests) else (f"{title} shares no value with another method here.",),
        )


def _paired_rows(run: RunFolder, tests: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each paired test."""
    for test in tests.to_dict("records"):
        yield (
            Cell(run.metadata.method_title(test["method"])),
            *(count_cell(test[name]) for name in ("n", "better", "same", "worse")),
            number_cell(test["difference"]),
            number_cell(test["p"]),
            number_cell(test["adjusted"], bold=test["adjusted"] < run.level),
        )
