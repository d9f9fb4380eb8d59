"""Every metric of a setting: its methods' counts, median, mean, standard error, and why values are missing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric
from axiom_bench.report.tables.text import (
    BOLD_NOTE,
    by_metric,
    common_notes,
    construction_notes,
    group_title,
    interval_notes,
    metric_notes,
    name_of,
    statistic,
    statistic_cell,
    without_value,
)
from axiom_bench.statistics.metadata import Setting, Value, rows_at
from axiom_bench.statistics.numbers import NOTHING
from axiom_bench.statistics.places import best_methods, on_common_images
from axiom_bench.statistics.run_folder import RunFolder

TITLE = "All metrics"
HEADER = ("Method", "Images", "Rows", "Median [95 %]", "Mean [95 %]", "Standard error", "Rows without a value")
COMMON = "In common"
NOTE = (
    "Images, rows (an image and an explained class): those with a value. Methods are compared by the median of ratios, "
    "whose tails are heavy where the score is near 0, and else by the mean. Standard error: of the mean, by image."
)
COMMON_NOTE = f"{COMMON}: the same statistic over the images that all compared methods have, where these are fewer."


def metric_tables(run: RunFolder, summary: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric."""
    for i, setting in enumerate(run.settings, start=1):
        own = rows_at(summary, setting)
        metrics = list(by_metric(run, own))
        has_common = any(on_common_images(rows) for _, _, rows in metrics)
        whole_sets = {value.name for value, whole_set, _ in metrics if whole_set}
        groups = tuple(
            Group(
                group_title(value, whole_set),
                tuple(_rows(run, setting, rows, value, whole_set or value.name not in whole_sets, has_common)),
                value.name,
            )
            for value, whole_set, rows in metrics
        )
        notes = (
            NOTE,
            BOLD_NOTE,
            *interval_notes(run, bool(whole_sets)),
            *construction_notes(run, own),
            *((*common_notes(run, own), COMMON_NOTE) if has_common else ()),
            *metric_notes(value for value, _, _ in metrics),
        )
        header = (*HEADER[:-1], COMMON, HEADER[-1]) if has_common else HEADER
        label = run.label(setting)
        yield Table(
            f"metrics_{i}", f"{TITLE}, {label}", header, groups, notes, text_last=True, family=TITLE, label=label
        )


def _rows(
    run: RunFolder, setting: Setting, rows: pd.DataFrame, value: Value, is_ranked: bool, has_common: bool
) -> Iterator[tuple[Cell, ...]]:
    """is_ranked: whether a value may be bold; a metric with a value of the whole data set is ranked by that alone.
    has_common: whether the table has the column of values on common images, where then the best of a metric is bold."""
    differ, best_names = on_common_images(rows), best_methods(run, setting, value.name) if is_ranked else frozenset()
    for _, entry in rows.iterrows():
        is_bold = entry["method"] in best_names
        counts = [count(entry[name]) if entry["n"] else Cell(NOTHING) for name in ("images", "n")]
        cells = [Cell(name_of(run, entry["method"])), *counts]
        for name in ("median", "mean"):
            leads = name == value.lead
            cell = statistic_cell(entry, name, bold=leads and is_bold and not differ)
            cells.append(cell if leads else replace(cell, text=statistic(entry, name)))
        cells.append(numeric(entry["standard_error"]))
        if has_common:
            cells.append(numeric(entry[f"common_{value.lead}"], bold=is_bold) if differ else Cell(""))
        yield (*cells, Cell(without_value(entry["statuses"])))
