"""The long tables: every metric of a setting, by correctness of the prediction, statuses, and run time by step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from axiom_bench.report.tables.table import Cell, Group, Table, count, numeric, row
from axiom_bench.report.tables.text import (
    BOLD_NOTE,
    INTERVAL_NOTE,
    PARTIAL,
    by_metric,
    common_notes,
    construction_notes,
    group_title,
    interval_notes,
    methods_by_status,
    metric_notes,
    name_of,
    names_of,
    statistic,
    statistic_cell,
    target_note,
    without_value,
)
from axiom_bench.statistics.labels import NOTHING, Setting, Value, rows_at
from axiom_bench.statistics.ranking import best_methods, on_common_images
from axiom_bench.statistics.run_folder import METHOD_FREE, RunFolder
from axiom_bench.statistics.summary import SPLITS

METRICS = "All metrics"
METRICS_HEADER = ("Method", "Images", "Rows", "Median [95 %]", "Mean [95 %]", "Standard error", "Rows without a value")
COMMON = "In common"
METRICS_NOTE = (
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
                tuple(_metric_rows(run, setting, rows, value, whole_set or value.name not in whole_sets, has_common)),
                value.name,
            )
            for value, whole_set, rows in metrics
        )
        notes = (
            METRICS_NOTE,
            BOLD_NOTE,
            *interval_notes(run, bool(whole_sets)),
            *construction_notes(run, own),
            *((*common_notes(run, own), COMMON_NOTE) if has_common else ()),
            *metric_notes(value for value, _, _ in metrics),
        )
        header = (*METRICS_HEADER[:-1], COMMON, METRICS_HEADER[-1]) if has_common else METRICS_HEADER
        label = run.label(setting)
        yield Table(
            f"metrics_{i}", f"{METRICS}, {label}", header, groups, notes, text_last=True, family=METRICS, label=label
        )


def _metric_rows(
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


CORRECTNESS = "By correctness of the prediction"
CORRECTNESS_HEADER = ("Method", "Rows correct", "Correct [95 %]", "Rows wrong", "Wrong [95 %]", "Rows without a value")
CORRECTNESS_NOTE = (
    "The median of ratios, the mean of all else. Nothing is bold: methods are compared over all rows, in the other "
    f"tables. {PARTIAL} fewer rows than another method has."
)


def correctness_tables(run: RunFolder, split: pd.DataFrame) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric of single images."""
    for i, setting in enumerate(run.settings, start=1):
        own = rows_at(split, setting)
        notes = (target_note(str(run.config.get("target", "label"))), CORRECTNESS_NOTE, INTERVAL_NOTE)
        metrics = by_metric(run, own)
        groups = tuple(
            Group(group_title(value), tuple(_split_rows(run, rows, value)), value.name) for value, _, rows in metrics
        )
        label = run.label(setting)
        yield Table(
            f"correctness_{i}",
            f"{CORRECTNESS}, {label}",
            CORRECTNESS_HEADER,
            groups,
            notes,
            text_last=True,
            family=CORRECTNESS,
            label=label,
        )


def _split_rows(run: RunFolder, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    methods = list(dict.fromkeys(rows["method"]))
    parts = {name: rows[rows["split"] == name].set_index("method").reindex(methods) for name in SPLITS}
    n = {name: part["n"].fillna(0).astype(int) for name, part in parts.items()}
    for method in methods:
        cells = [Cell(name_of(run, method))]
        for name in ("correct", "wrong"):
            row = parts[name].loc[method]
            cells += [count(n[name][method]), statistic_cell(row, value.lead)]
        others = without_value(" ".join(rows.loc[rows["method"] == method, "statuses"]))
        unknown = n["unknown"][method]
        yield (*cells, Cell(f"class unknown: {unknown}, {others}" if unknown else others))


STATUSES_HEADER = ("Metrics", "Status", "Methods", "Rows of each")


def status_table(run: RunFolder, summary: pd.DataFrame) -> Table:
    """No rows, and a sentence that says so, where all is ok."""
    rows = ((run.label(setting), tuple(_status_rows(run, rows_at(summary, setting)))) for setting in run.settings)
    groups = tuple(Group(label, own) for label, own in rows if own)
    notes = () if groups else ("Every row has status ok.",)
    return Table("statuses", "Statuses other than ok", STATUSES_HEADER, groups, notes, text_columns=3)


def _status_rows(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """One row for all metrics with the same status of the same methods in as many rows.

    Titles have commas of their own.
    """
    metrics: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    of_images = set(summary.loc[~summary["whole_set"].astype(bool), "metric"])
    for value, whole_set, rows in by_metric(run, summary):
        if not whole_set or value.name not in of_images:  # else its images have the same statuses
            for (status, count), methods in methods_by_status(rows).items():
                metrics.setdefault((status, count, methods), []).append(value.title)
    for (status, count, methods), titles in metrics.items():
        yield row("; ".join(titles), status, names_of(run, methods), count)


RUNTIME_HEADER = (
    "Step",
    "Method",
    "ms/image",
    "Forwards",
    "Trunk fwd / bwd",
    "Head fwd / bwd",
    "Peak MiB",
    "Batch",
    "Device",
)
STEPS = ("forward", "trace", "ablation_drops", "method")
RUNTIME_NOTE = (
    "Each step on a fresh trace. Forwards: its time in plain forward passes of the model, measured in turn. "
    "fwd / bwd: passes through trunk and head, counted per image. A dash: not known on this device."
)


def runtime_table(run: RunFolder) -> Table:
    """One group for each model and layer; a sentence where nothing was timed."""
    order = run.runtime.assign(step=pd.Categorical(run.runtime["step"], STEPS, ordered=True))
    order = order.sort_values(["model", "layer", "step", "method"])
    groups = [
        Group(f"{model} {layer}", tuple(_runtime_row(run, entry) for entry in rows.to_dict("records")))
        for (model, layer), rows in order.groupby(["model", "layer"], observed=True)
    ]
    notes = (RUNTIME_NOTE,) if groups else ("Run time wasn't measured in this run.",)
    return Table("runtime", "Run time", RUNTIME_HEADER, tuple(groups), notes, text_columns=2, text_last=True)


def _runtime_row(run: RunFolder, entry: dict[Any, Any]) -> tuple[Cell, ...]:
    memory = entry["peak_memory_bytes"]
    passes = ((entry[f"{part}_forward"], entry[f"{part}_backward"]) for part in ("trunk", "head"))
    return (
        Cell(str(entry["step"]).replace("_", " ")),
        Cell(NOTHING if entry["method"] == METHOD_FREE else run.metadata.method_title(str(entry["method"]))),
        numeric(entry["milliseconds_per_image"]),
        numeric(entry["forwards"]),
        *(Cell(f"{forward:g} / {backward:g}", numbers=(forward, backward)) for forward, backward in passes),
        numeric(memory / 2**20, NOTHING if pd.isna(memory) else f"{memory / 2**20:,.0f}"),
        count(entry["batch_size"]),
        Cell(str(entry["device"])),
    )
