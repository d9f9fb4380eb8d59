"""Tables of a run's summary: overview, one metric for a paper, all metrics, by correctness,
statuses and run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.tables import text
from axiom_bench.report.tables.table import Cell, Group, Table, count, interval, numeric, span
from axiom_bench.report.tables.text import BOLD_NOTE, INTERVAL_NOTE, PARTIAL
from axiom_bench.statistics.bootstrap import OverNetworks
from axiom_bench.statistics.labels import NOTHING, Setting, Value, counts_text, number, rows_at
from axiom_bench.statistics.ranking import best_methods, on_common_images
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import KEYS, leading


def overview_table(run: RunFolder) -> Table:
    """Of the metrics that `options_of` chooses."""
    values = [run.metadata.value(name) for name in options_of(run).columns]
    rows = leading(run.summary[run.summary["metric"].isin([value.name for value in values])])
    rows = rows[rows["method"] != METHOD_FREE]
    whole_set = set(rows.loc[rows["whole_set"].astype(bool), "metric"])
    groups = [
        Group(run.label(at), _overview_rows(run, at, rows_at(rows, at), values))
        for at in run.settings
    ]
    time = ("Run time\nms/image\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}",) if len(run.runtime) else ()
    header = ("Method", *(text.heading(value, value.name in whole_set) for value in values), *time)
    about = (text.legend(run, rows), *text.random_weights_lines(run), *run.metadata.model_notes())
    notes = (
        *about, *_counts(run, rows), BOLD_NOTE,
        *text.interval_notes(run, bool(whole_set)), *_notes(run, rows), _time_note(run), *text.metric_notes(values),
        *_kept(run),
    )  # fmt: skip
    shown = tuple(group for group in groups if group.rows)
    return Table("overview", "Overview", header, shown, notes, num_open=len(about))


def _notes(run: RunFolder, rows: pd.DataFrame) -> list[str]:
    return [
        *text.control_notes(run, run.settings, rows["metric"].unique()), *text.construction_notes(run, rows),
        *text.common_notes(run, rows), *text.status_notes(run, rows),
    ]  # fmt: skip


def _overview_rows(
    run: RunFolder, setting: Setting, summary: pd.DataFrame, values: list[Value]
) -> tuple[tuple[Cell, ...], ...]:
    """A row for each method that has a value; notes say why others have none."""
    measured = set(summary.loc[summary["n"] > 0, "method"])
    methods = [method for method in dict.fromkeys(summary["method"]) if method in measured]
    rows_of = (of_methods(run, setting, summary, value, methods) for value in values)
    columns = [
        [text.statistic_cell(row, value, lead, is_best) for row, lead, is_best in rows]
        for value, rows in zip(values, rows_of, strict=True)
    ]
    if len(run.runtime):
        times = milliseconds(run, setting)
        columns.append([*map(numeric, times.reindex(methods) + times.get(TRACE, float("nan")))])
    return _rows(run, methods, columns)


def of_methods(
    run: RunFolder, setting: Setting, summary: pd.DataFrame, value: Value, methods: Sequence[str]
) -> Iterator[tuple[text.Row, str, bool]]:
    """(its row of the summary, the statistic that leads, whether it may be bold) of each method,
    for one metric.
    """
    rows = {
        row["method"]: row for row in summary[summary["metric"] == value.name].to_dict("records")
    }
    lead = (
        "mean"
        if any(rows[method]["whole_set"] for method in methods if method in rows)
        else value.lead
    )
    best_names = best_methods(run, setting, value.name)
    return ((rows.get(method, {}), lead, method in best_names) for method in methods)


def _rows(
    run: RunFolder, methods: Sequence[str], columns: Sequence[Sequence[Cell]]
) -> tuple[tuple[Cell, ...], ...]:
    titles = (Cell(run.metadata.method_title(name)) for name in methods)
    return tuple(zip(titles, *columns, strict=True))


def _counts(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """How many images and rows a setting has."""
    labels: dict[str, list[str]] = {}
    for setting in run.settings:
        rows = rows_at(summary, setting)
        if (rows["n"] > 0).any():
            counts = counts_text([rows["images"].max()], [rows["n"].max()])
            labels.setdefault(counts, []).append(run.label(setting))
    parts = [
        counts if len(labels) == 1 else f"{', '.join(names)} {counts}"
        for counts, names in labels.items()
    ]
    return [f"{'; '.join(parts)}; a row is an image and an explained class."] if parts else []


def _time_note(run: RunFolder) -> str:
    if run.runtime.empty:
        return RUNTIME_ABSENT
    traces = {run.label(setting): milliseconds(run, setting).get(TRACE) for setting in run.settings}
    times = ", ".join(f"{label} {number(ms)} ms" for label, ms in traces.items() if ms is not None)
    return (
        f"Run time, never bold: one trace ({times}), which all methods share, plus the method "
        "itself."
    )


def _kept(run: RunFolder) -> list[str]:
    """How many of the images each model explains, where data.only_correct chooses them."""
    kept = []
    for name, model in run.manifest.models.items():
        for data, images in model.images.items():
            if images.others:
                of_data = f" ({data})" if len(model.images) > 1 else ""
                kept.append(f"{name} {images.kept:,} of {images.chosen:,}{of_data}")
    sentence = (
        "Each model explains the images that it names correctly, data.only_correct: "
        f"{', '.join(kept)}."
    )
    return [sentence] if kept else []


def headline_tables(run: RunFolder) -> Iterator[Table]:
    """Of the metrics of `config.report.headline` that the run has, where a method has a value."""
    for name in options_of(run).headline:
        rows = leading(
            run.summary[(run.summary["metric"] == name) & (run.summary["method"] != METHOD_FREE)]
        )
        if (rows["n"] > 0).any():
            yield headline_table(run, run.metadata.value(name), rows)


def headline_table(run: RunFolder, value: Value, rows: pd.DataFrame) -> Table:
    """rows: of the summary, of this metric alone. A method without any value is left out; a note
    says why.
    """
    defined = rows[rows["n"] > 0]
    methods = [method for method in run.methods if method in set(defined["method"])]
    settings = {
        setting: of_setting for setting in run.settings if len(of_setting := rows_at(rows, setting))
    }
    columns = []
    for setting, of_setting in settings.items():
        cells = of_methods(run, setting, of_setting, value, methods)
        columns.append([text.statistic_cell(row, value, lead, bold) for row, lead, bold in cells])
    _, _, shown = text.heading(value, bool(rows["whole_set"].any())).partition("\n")
    counts = counts_text(defined["images"], defined["n"])
    notes = (
        f"Shown: {shown}. {counts}. {text.legend(run, rows)}",
        BOLD_NOTE,
        INTERVAL_NOTE,
        *_notes(run, rows),
    )
    header = ("Method", *map(run.label, settings))
    groups = (Group("", _rows(run, methods, columns)),)
    return Table(f"headline_{value.name}", text.group_title(value), header, groups, notes)


TRAININGS = "Over trainings"
TRAININGS_NOTE = (
    "Networks of one architecture, trained from different seeds. Of each network: the median of "
    "ratios and squares, else the mean. All trainings: the mean over the networks, with a 95 % "
    "interval for other trainings on other images (docs/statistics.md). These networks: the same "
    "mean, with an interval for other images alone. Without one: the least and the greatest mean "
    "when one network is left out."
)


def training_tables(run: RunFolder) -> Iterator[Table]:
    """Of each architecture with three or more networks: one group of rows for each headline
    metric.
    """
    values = [run.metadata.value(name) for name in options_of(run).headline]
    for i, settings in enumerate(run.trainings, start=1):
        header = (
            "Method",
            *map(run.label, settings),
            "All trainings [95 %]",
            "These networks [95 %]",
            "Without one",
        )
        groups = []
        for value in values:
            rows = tuple(
                (Cell(run.metadata.method_title(method)), *_training_cells(found, value.rounding))
                for method, found in run.over_networks(settings, value).items()
            )
            groups += [Group(text.group_title(value), rows, value.name)] if rows else []
        label = run.label(settings[0])
        yield Table.of_setting(
            f"trainings_{i}", TRAININGS, label, header, tuple(groups), (TRAININGS_NOTE,)
        )


def _training_cells(found: OverNetworks, rounding: float) -> Iterator[Cell]:
    for value in found.of_each:
        yield numeric(value, number(value, rounding))
    for low, high in (found.of_all, found.of_these):
        yield interval(found.mean, low, high, rounding)
    low, high = found.without_one
    yield span(low, high, rounding)


METRICS = "All metrics"
METRICS_HEADER = (
    "Method",
    "Images",
    "Rows",
    "Median [95 %]",
    "Mean [95 %]",
    "Standard error",
    "Rows without a value",
)
COMMON = "In common"
METRICS_NOTE = (
    "Images, rows (an image and an explained class): those with a value. Methods are compared by "
    "the median of ratios and squares, whose tails are heavy, and else by the mean. Standard "
    "error: of the mean, by image."
)
COMMON_NOTE = (
    f"{COMMON}: the same statistic over the images that all compared methods have, where these are "
    "fewer."
)


def metric_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric."""
    for i, setting in enumerate(run.settings, start=1):
        selected = rows_at(run.summary, setting)
        metrics = list(text.by_metric(run, selected))
        has_common = any(on_common_images(rows) for _, _, rows in metrics)
        whole_sets = {value.name for value, whole_set, _ in metrics if whole_set}
        groups = []
        for value, whole_set, rows in metrics:
            # A metric with a value of the whole data set is ranked by that alone.
            is_ranked = whole_set or value.name not in whole_sets
            best_names = best_methods(run, setting, value.name) if is_ranked else frozenset()
            cells = tuple(_metric_rows(run, rows, value, best_names, has_common))
            groups.append(Group(text.group_title(value, whole_set), cells, value.name))
        notes = (
            f"{text.legend(run, selected)} {METRICS_NOTE}", BOLD_NOTE, *text.interval_notes(run, bool(whole_sets)),
            *text.control_notes(run, [setting], run.metrics), *text.construction_notes(run, selected),
            *text.common_notes(run, selected),
            *((COMMON_NOTE,) if has_common else ()), *text.metric_notes(value for value, _, _ in metrics),
        )  # fmt: skip
        header = (
            (*METRICS_HEADER[:-1], COMMON, METRICS_HEADER[-1]) if has_common else METRICS_HEADER
        )
        label = run.label(setting)
        yield Table.of_setting(
            f"metrics_{i}", METRICS, label, header, tuple(groups), notes, text_last=True
        )


def _metric_rows(
    run: RunFolder, rows: pd.DataFrame, value: Value, best_names: frozenset[str], has_common: bool
) -> Iterator[tuple[Cell, ...]]:
    """best_names: whose value is bold. has_common: whether the table has the column of values on
    common images, where then the best of a metric is bold.
    """
    differ = on_common_images(rows)
    for entry in rows.to_dict("records"):
        is_bold = entry["method"] in best_names
        counts = [count(entry[name]) if entry["n"] else Cell(NOTHING) for name in ("images", "n")]
        cells = [Cell(text.name_of(run, entry["method"])), *counts]
        for name in ("median", "mean"):
            leads = name == value.lead
            cell_of = text.statistic_cell if leads else text.statistic
            cells.append(cell_of(entry, value, name, leads and is_bold and not differ))
        cells.append(numeric(entry["standard_error"]))
        if has_common:
            cells.append(
                numeric(entry[f"common_{value.lead}"], bold=is_bold) if differ else Cell("")
            )
        yield (*cells, Cell(text.without_value(entry["statuses"])))


CORRECTNESS = "By correctness of the prediction"
CORRECTNESS_HEADER = (
    "Method",
    "Rows correct",
    "Correct [95 %]",
    "Rows wrong",
    "Wrong [95 %]",
    "Rows without a value",
)
CORRECTNESS_NOTE = (
    "The median of ratios and squares, the mean of all else. Nothing is bold: methods are "
    f"compared over all rows, in the other tables. {PARTIAL} fewer rows than another method has."
)


def correctness_tables(run: RunFolder) -> Iterator[Table]:
    """One table for each setting, one group of rows for each metric of single images."""
    notes = (text.target_note(str(run.config.target or "label")), CORRECTNESS_NOTE, INTERVAL_NOTE)
    for i, setting in enumerate(run.settings, start=1):
        metrics = text.by_metric(run, rows_at(run.split_summary, setting))
        rows_of = {value: tuple(_split_rows(run, rows, value)) for value, _, rows in metrics}
        groups = tuple(
            Group(text.group_title(value), rows, value.name) for value, rows in rows_of.items()
        )
        label, header = run.label(setting), CORRECTNESS_HEADER
        yield Table.of_setting(
            f"correctness_{i}", CORRECTNESS, label, header, groups, notes, text_last=True
        )


def _split_rows(run: RunFolder, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    of_methods: dict[str, dict[str, text.Row]] = {}
    for row in rows.to_dict("records"):
        of_methods.setdefault(row["method"], {})[row["split"]] = row
    for method, by_split in of_methods.items():
        cells = [Cell(text.name_of(run, method))]
        for name in ("correct", "wrong"):
            of_split = by_split.get(name, {})
            cells += [count(of_split.get("n", 0)), text.statistic_cell(of_split, value, value.lead)]
        others = text.without_value(" ".join(row["statuses"] for row in by_split.values()))
        unknown = by_split.get("unknown", {}).get("n", 0)
        yield (*cells, Cell(f"class unknown: {unknown}, {others}" if unknown else others))


STATUSES_HEADER = ("Metrics", "Status", "Methods", "Rows of each")


def status_table(run: RunFolder) -> Table:
    """No rows, and a sentence that says so, where all is ok."""
    rows = (
        (run.label(setting), tuple(_status_rows(run, rows_at(run.summary, setting))))
        for setting in run.settings
    )
    groups = tuple(Group(label, selected) for label, selected in rows if selected)
    notes = () if groups else ("Every row has status ok.",)
    return Table(
        "statuses", "Statuses other than ok", STATUSES_HEADER, groups, notes, text_columns=3
    )


def _status_rows(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """One row for all metrics with the same status of the same methods in as many rows."""
    metrics: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    of_images = set(summary.loc[~summary["whole_set"].astype(bool), "metric"])
    for value, whole_set, rows in text.by_metric(run, summary):
        if not whole_set or value.name not in of_images:  # else its images have the same statuses
            for (status, counted), methods in text.methods_by_status(rows).items():
                metrics.setdefault((status, counted, methods), []).append(value.title)
    for (status, counted, methods), titles in metrics.items():  # titles have commas of their own
        yield tuple(map(Cell, ("; ".join(titles), status, text.names_of(run, methods), counted)))


RUNTIME_ABSENT = "Run time wasn't measured in this run; runtime.repeats=5 measures it."
RUNTIME_HEADER = (
    "Step", "Method", "ms/image", "Forwards", "Trunk fwd / bwd", "Head fwd / bwd", "Peak MiB", "Batch", "Device",
)  # fmt: skip
STEPS = ("forward", "trace", "ablation_drops", "method")
RUNTIME_NOTE = (
    "Each step on a fresh trace. Forwards: its time in plain forward passes of the model, "
    "measured in turn. fwd / bwd: passes through trunk and head, counted per image. A dash: not "
    "known on this device."
)


def runtime_table(run: RunFolder) -> Table:
    """One group for each model and layer; a sentence where nothing was timed."""
    order = run.runtime.assign(step=pd.Categorical(run.runtime["step"], STEPS, ordered=True))
    order = order.sort_values(["model", "layer", "step", "method"])
    groups = [
        Group(
            f"{model} {layer}", tuple(_runtime_row(run, entry) for entry in rows.to_dict("records"))
        )
        for (model, layer), rows in order.groupby(["model", "layer"], observed=True)
    ]
    notes = (RUNTIME_NOTE,) if groups else (RUNTIME_ABSENT,)
    return Table(
        "runtime", "Run time", RUNTIME_HEADER, tuple(groups), notes, text_columns=2, text_last=True
    )


def _runtime_row(run: RunFolder, entry: dict[Any, Any]) -> tuple[Cell, ...]:
    memory, method = entry["peak_memory_bytes"], str(entry["method"])
    passes = ((entry[f"{part}_forward"], entry[f"{part}_backward"]) for part in ("trunk", "head"))
    return (
        Cell(str(entry["step"]).replace("_", " ")),
        Cell(NOTHING if method == METHOD_FREE else run.metadata.method_title(method)),
        numeric(entry["milliseconds_per_image"]),
        numeric(entry["forwards"]),
        *(
            Cell(f"{forward:g} / {backward:g}", numbers=(forward, backward))
            for forward, backward in passes
        ),
        numeric(memory / 2**20, NOTHING if pd.isna(memory) else f"{memory / 2**20:,.0f}"),
        count(entry["batch_size"]),
        Cell(str(entry["device"])),
    )


_NUMBERS = (
    "images", "n", "rows", "mean", "mean_low", "mean_high", "median", "median_low", "median_high", "standard_error",
)  # fmt: skip
_COMMON = ("compared", "common_images", "common_n", "common_mean", "common_median")


def long_frame(run: RunFolder) -> pd.DataFrame:
    """One row for each setting, method, metric and split (all, correct, wrong, unknown); n: rows
    with status ok; common_...: of the rows that all compared methods have, see `statistics.common`.
    """
    rows = pd.concat([run.summary.assign(split="all"), run.split_summary], ignore_index=True)
    for about in ("unit", "better"):
        of_metrics = {name: getattr(run.metadata.value(name), about) for name in run.metrics}
        rows[about] = rows["metric"].astype(str).map(of_metrics)
    return rows[[*KEYS, "split", "unit", "better", *_NUMBERS, *_COMMON, "statuses"]]


def wide_frame(run: RunFolder) -> pd.DataFrame:
    """One row for each setting and method: "<metric> mean", "<metric> median", "<metric> n", ...,
    and the method's milliseconds beyond the trace (of the trace itself in the row of method "-").
    """
    keys, summary = ["model", "layer", "data", "method"], run.summary
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
    spent = [
        times[Setting(*place)].get(method, float("nan"))
        for *place, method in table[keys].astype(str).to_numpy()
    ]
    return table.assign(milliseconds_per_image=spent).convert_dtypes()
