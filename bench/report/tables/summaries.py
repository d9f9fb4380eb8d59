"""Tables of a run's summary: overview, one metric for a paper, all metrics, by correctness,
statuses and run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from axiom_bench.report.options import options_of
from axiom_bench.report.shown import methods_in_order, order_note
from axiom_bench.report.tables import text
from axiom_bench.report.tables.table import (
    Cell,
    Group,
    Table,
    cell_widths,
    count_cell,
    interval_cell,
    number_cell,
    span_cell,
)
from axiom_bench.report.tables.text import PARTIAL, bold_note, interval_note
from axiom_bench.statistics.bootstrap import LEVEL, OverNetworks
from axiom_bench.statistics.labels import (
    NOTHING,
    Setting,
    Value,
    confidence,
    counts_text,
    number,
    percent,
    rows_at,
)
from axiom_bench.statistics.ranking import best_methods, on_common_images
from axiom_bench.statistics.run_folder import METHOD_FREE, TRACE, RunFolder, milliseconds
from axiom_bench.statistics.summary import KEYS, leading_rows

# The limits of the LaTeX overview, unless a user chooses its metrics.
LATEX_METRICS = 4
LATEX_WIDTH = 98  # characters of a line, about 5.5 inches


def overview_table(run: RunFolder) -> Table:
    """Return the table of the metrics that `options_of` chooses. A note lists the other metrics."""
    columns = options_of(run).columns
    table = _overview(run, columns, len(run.runtime) > 0)
    others = [run.metadata.value(name).title for name in run.metrics if name not in columns]
    if not others:
        return table
    note = f"Metrics that are only in the table {METRICS!r}: {', '.join(others)}."
    return replace(table, notes=(*table.notes, note))


def latex_overview_table(run: RunFolder) -> Table:
    """Return the overview of a paper: the metrics of `report.latex.columns`, without run times."""
    options = options_of(run)
    if options.latex.columns is not None:
        chosen = [name for name in options.latex.columns if name in run.metrics]
        return _overview(run, chosen, has_times=False)
    metrics = [name for name in options.columns if name not in options.columns_off]
    metrics = metrics[:LATEX_METRICS]
    table = _overview(run, metrics, has_times=False)
    while len(metrics) > 1 and sum(cell_widths(table)) > LATEX_WIDTH:
        metrics.pop()
        table = _overview(run, metrics, has_times=False)
    return table


def _overview(run: RunFolder, metrics: Sequence[str], has_times: bool) -> Table:
    """Return a table of metrics, with the run times if `has_times`."""
    values = [run.metadata.value(name) for name in metrics]
    rows = leading_rows(run.summary[run.summary["metric"].isin([value.name for value in values])])
    rows = rows[rows["method"] != METHOD_FREE]
    whole_set = set(rows.loc[rows["whole_set"].astype(bool), "metric"])
    groups = []
    for setting in run.settings:
        group_rows = _overview_rows(run, setting, rows_at(rows, setting), values, has_times)
        groups.append(Group(run.label(setting), group_rows))
    header = ["Method"]
    for value in values:
        header.append(text.heading(value, value.name in whole_set, run.level))
    if has_times:
        header.append("Own run time\nms/image\N{NO-BREAK SPACE}\N{DOWNWARDS ARROW}")
    # The page shows these notes before a reader opens the others.
    open_notes = (
        text.legend(run, rows),
        *_shown_notes(run),
        *text.random_weights_lines(run),
        *run.metadata.model_notes(),
    )
    notes = (
        *open_notes,
        *_counts(run, rows),
        bold_note(run.level),
        *text.interval_notes(run, bool(whole_set)),
        *_notes(run, rows),
        _time_note(run),
        *text.metric_notes(values),
        *_kept(run),
    )
    return Table(
        "overview",
        "Overview",
        tuple(header),
        tuple(group for group in groups if group.rows),
        notes,
        num_open=len(open_notes),
    )


def _shown_notes(run: RunFolder) -> list[str]:
    """Return sentences on what `report.methods`, `report.level` and `report.sort` have changed."""
    notes = []
    if run.view.left_out:
        names = ", ".join(run.view.left_out)
        notes.append(f"Not shown, and not compared with (report.methods): {names}.")
    if run.level != LEVEL:
        notes.append(
            f"Tests are at {percent(run.level)}, and intervals have a confidence of "
            f"{confidence(run.level)} (report.level={run.level:g})."
        )
    if note := order_note(run):
        notes.append(note)
    return notes


def _notes(run: RunFolder, rows: pd.DataFrame) -> list[str]:
    """Return the notes on these summary rows: what isn't ranked or compared, and missing values."""
    return [
        *text.control_notes(run, run.settings, rows["metric"].unique()),
        *text.construction_notes(run, rows),
        *text.common_notes(run, rows),
        *text.status_notes(run, rows),
    ]


def _overview_rows(
    run: RunFolder,
    setting: Setting,
    summary: pd.DataFrame,
    values: list[Value],
    has_times: bool,
) -> tuple[tuple[Cell, ...], ...]:
    """Return a row for each method that has a value. Notes say why others have none."""
    measured = set(summary.loc[summary["n"] > 0, "method"])
    methods = [method for method in methods_in_order(run, setting) if method in measured]
    columns = []
    for value in values:
        rows = method_rows(run, setting, summary, value, methods)
        columns.append(
            [text.statistic_cell(row, value, lead, is_best) for row, lead, is_best in rows]
        )
    if has_times:
        times = milliseconds(run, setting)
        columns.append([number_cell(time) for time in times.reindex(methods)])
    return _rows(run, methods, columns)


def method_rows(
    run: RunFolder, setting: Setting, summary: pd.DataFrame, value: Value, methods: Sequence[str]
) -> Iterator[tuple[text.Row, str, bool]]:
    """Return (its row of the summary, the statistic that leads, whether it may be bold) of each
    method, for one metric.
    """
    metric_rows = summary[summary["metric"] == value.name].to_dict("records")
    rows = {row["method"]: row for row in metric_rows}
    has_whole_set = any(rows[method]["whole_set"] for method in methods if method in rows)
    lead = "mean" if has_whole_set else value.lead
    best_names = best_methods(run, setting, value.name)
    return ((rows.get(method, {}), lead, method in best_names) for method in methods)


def _rows(
    run: RunFolder, methods: Sequence[str], columns: Sequence[Sequence[Cell]]
) -> tuple[tuple[Cell, ...], ...]:
    """Return a row of cells for each method from columns of cells."""
    titles = (Cell(run.metadata.method_title(name)) for name in methods)
    return tuple(zip(titles, *columns, strict=True))


def _counts(run: RunFolder, summary: pd.DataFrame) -> list[str]:
    """Return a note on how many images and rows the settings have."""
    labels: dict[str, list[str]] = {}
    for setting in run.settings:
        rows = rows_at(summary, setting)
        if (rows["n"] > 0).any():
            counts = counts_text([rows["images"].max()], [rows["n"].max()])
            labels.setdefault(counts, []).append(run.label(setting))
    parts = []
    for counts, names in labels.items():
        parts.append(counts if len(labels) == 1 else f"{', '.join(names)} {counts}")
    return [f"{'; '.join(parts)}; a row is an image and an explained class."] if parts else []


def _time_note(run: RunFolder) -> str:
    """Return the note on the column of run times."""
    if run.runtime.empty:
        return RUNTIME_ABSENT
    traces = {run.label(setting): milliseconds(run, setting).get(TRACE) for setting in run.settings}
    times = ", ".join(
        f"{number(ms)} ms on {label}" for label, ms in traces.items() if ms is not None
    )
    if not times:
        return "Own run time, never bold: the method's part, without the trace."
    return (
        f"Own run time, never bold: the method's part. The trace, which all methods share, takes "
        f"another {times}."
    )


def _kept(run: RunFolder) -> list[str]:
    """Return a note on how many images each model explains, if data.only_correct chooses them."""
    counts = []
    for name, model in run.manifest.models.items():
        for data, images in model.images.items():
            if images.others:
                data_set = f" ({data})" if len(model.images) > 1 else ""
                counts.append(f"{name} {images.kept:,} of {images.chosen:,}{data_set}")
    if not counts:
        return []
    return [
        "Each model explains the images that it names correctly, data.only_correct: "
        f"{', '.join(counts)}."
    ]


def headline_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a short table for each metric of `config.report.headline` that has a value of a
    method.
    """
    has_method = run.summary["method"] != METHOD_FREE
    for name in options_of(run).headline:
        rows = leading_rows(run.summary[(run.summary["metric"] == name) & has_method])
        if (rows["n"] > 0).any():
            yield headline_table(run, run.metadata.value(name), rows)


def headline_table(run: RunFolder, value: Value, rows: pd.DataFrame) -> Table:
    """Return a short table of one metric. A method without any value is left out; a note says why.

    Args:
        run: The run, as read from its folder.
        value: The metric.
        rows: The rows of the summary that are of this metric.
    """
    defined = rows[rows["n"] > 0]
    methods: list[str] = []
    settings: list[Setting] = []
    columns = []
    for setting in run.settings:
        setting_rows = rows_at(rows, setting)
        if len(setting_rows):  # a setting in which the metric wasn't measured has no column
            if not settings:  # the first column decides the order
                ordered = methods_in_order(run, setting)
                methods = [method for method in ordered if method in set(defined["method"])]
            settings.append(setting)
            entries = method_rows(run, setting, setting_rows, value, methods)
            columns.append(
                [text.statistic_cell(row, value, lead, is_best) for row, lead, is_best in entries]
            )
    _, _, shown = text.heading(value, bool(rows["whole_set"].any()), run.level).partition("\n")
    counts = counts_text(defined["images"], defined["n"])
    notes = (
        f"Shown: {shown}. {counts}. {text.legend(run, rows)}",
        bold_note(run.level),
        interval_note(run.level),
        *_notes(run, rows),
    )
    header = ("Method", *map(run.label, settings))
    groups = (Group("", _rows(run, methods, columns)),)
    return Table(f"headline_{value.name}", text.group_title(value), header, groups, notes)


TRAININGS = "Over trainings"
TRAININGS_NOTE = (
    "Networks of one architecture, trained from different seeds. Of each network: the median of "
    "ratios and squares, otherwise the mean. All trainings: the mean over the networks, with an "
    "interval for other trainings on other images (docs/statistics.md). These networks: the same "
    "mean, with an interval for other images only. Without one: the least and the greatest mean "
    "when one network is left out."
)


def training_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each architecture with three or more networks. It has one group of rows for
    each headline metric.
    """
    values = [run.metadata.value(name) for name in options_of(run).headline]
    ends = f"[{confidence(run.level)}]"
    for i, settings in enumerate(run.trainings, start=1):
        header = (
            "Method",
            *map(run.label, settings),
            f"All trainings {ends}",
            f"These networks {ends}",
            "Without one",
        )
        groups = []
        for value in values:
            rows = []
            for method, result in run.over_networks(settings, value).items():
                title = run.metadata.method_title(method)
                rows.append((Cell(title), *_training_cells(result, value.rounding)))
            if rows:
                groups.append(Group(text.group_title(value), tuple(rows), value.name))
        label = run.label(settings[0])
        yield Table.of_setting(
            f"trainings_{i}", TRAININGS, label, header, tuple(groups), (TRAININGS_NOTE,)
        )


def _training_cells(result: OverNetworks, rounding: float) -> Iterator[Cell]:
    """Yield a method's cells: a value for each network, two means with intervals, and a span."""
    for value in result.by_network:
        yield number_cell(value, number(value, rounding))
    for low, high in (result.interval_all, result.interval_these):
        yield interval_cell(result.mean, low, high, rounding)
    low, high = result.range_without_one
    yield span_cell(low, high, rounding)


METRICS = "All metrics"
COMMON = "In common"
METRICS_NOTE = (
    "Images, rows (an image and an explained class): those with a value. Methods are compared by "
    "the median of ratios and squares, whose tails are heavy, and otherwise by the mean. Standard "
    "error: of the mean, by image."
)
COMMON_NOTE = (
    f"{COMMON}: the same statistic over the images that all compared methods have, if these are "
    "fewer."
)


def metric_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each setting, with one group of rows for each metric."""
    for i, setting in enumerate(run.settings, start=1):
        selected = rows_at(run.summary, setting)
        metrics = list(text.by_metric(run, selected))
        has_common = any(on_common_images(rows) for _, _, rows in metrics)
        whole_sets = {value.name for value, whole_set, _ in metrics if whole_set}
        groups = []
        order = (METHOD_FREE, *methods_in_order(run, setting))
        for value, whole_set, rows in metrics:
            # A metric with a value of the whole data set is ranked by that value only.
            is_ranked = whole_set or value.name not in whole_sets
            best_names = best_methods(run, setting, value.name) if is_ranked else frozenset()
            cells = tuple(_metric_rows(run, rows, value, best_names, has_common, order))
            groups.append(Group(text.group_title(value, whole_set), cells, value.name))
        notes = (
            f"{text.legend(run, selected)} {METRICS_NOTE}",
            bold_note(run.level),
            *text.interval_notes(run, bool(whole_sets)),
            *text.control_notes(run, [setting], run.metrics),
            *text.construction_notes(run, selected),
            *text.common_notes(run, selected),
            *((COMMON_NOTE,) if has_common else ()),
            *text.metric_notes(value for value, _, _ in metrics),
        )
        ends = f"[{confidence(run.level)}]"
        header = ["Method", "Images", "Rows", f"Median {ends}", f"Mean {ends}", "Standard error"]
        if has_common:
            header.append(COMMON)
        header.append("Rows without a value")
        yield Table.of_setting(
            f"metrics_{i}",
            METRICS,
            run.label(setting),
            tuple(header),
            tuple(groups),
            notes,
            text_last=True,
        )


def _metric_rows(
    run: RunFolder,
    rows: pd.DataFrame,
    value: Value,
    best_names: frozenset[str],
    has_common: bool,
    order: Sequence[str],
) -> Iterator[tuple[Cell, ...]]:
    """Yield a metric's row for each method. The values of `best_names` are bold. If `has_common`,
    the table has a column of values on common images; a metric with such values has them bold.
    `order` has the names of all methods.
    """
    differ = on_common_images(rows)
    for entry in sorted(rows.to_dict("records"), key=lambda row: order.index(row["method"])):
        is_bold = entry["method"] in best_names
        cells = [Cell(text.name_of(run, entry["method"]))]
        for name in ("images", "n"):
            cells.append(count_cell(entry[name]) if entry["n"] else Cell(NOTHING))
        for name in ("median", "mean"):
            if name == value.lead:
                cells.append(text.statistic_cell(entry, value, name, is_bold and not differ))
            else:
                cells.append(text.statistic(entry, value, name))
        cells.append(number_cell(entry["standard_error"]))
        if has_common and differ:
            cells.append(number_cell(entry[f"common_{value.lead}"], bold=is_bold))
        elif has_common:
            cells.append(Cell(""))
        cells.append(Cell(text.without_value(entry["statuses"])))
        yield tuple(cells)


CORRECTNESS = "By correctness of the prediction"
CORRECTNESS_NOTE = (
    "The median of ratios and squares, the mean of all others. Nothing is bold: methods are "
    f"compared over all rows, in the other tables. {PARTIAL} fewer rows than another method has."
)


def correctness_tables(run: RunFolder) -> Iterator[Table]:
    """Yield a table for each setting, with one group of rows for each metric of single images."""
    ends = f"[{confidence(run.level)}]"
    header = (
        "Method",
        "Rows correct",
        f"Correct {ends}",
        "Rows wrong",
        f"Wrong {ends}",
        "Rows without a value",
    )
    target_note = text.target_note(str(run.config.target or "label"))
    notes = (target_note, CORRECTNESS_NOTE, interval_note(run.level))
    for i, setting in enumerate(run.settings, start=1):
        groups: dict[Value, Group] = {}
        for value, _, rows in text.by_metric(run, rows_at(run.split_summary, setting)):
            cells = tuple(_split_rows(run, rows, value))
            groups[value] = Group(text.group_title(value), cells, value.name)
        yield Table.of_setting(
            f"correctness_{i}",
            CORRECTNESS,
            run.label(setting),
            header,
            tuple(groups.values()),
            notes,
            text_last=True,
        )


def _split_rows(run: RunFolder, rows: pd.DataFrame, value: Value) -> Iterator[tuple[Cell, ...]]:
    """Yield a row for each method, with its values on correct and on wrong predictions."""
    rows_by_method: dict[str, dict[str, text.Row]] = {}
    for row in rows.to_dict("records"):
        rows_by_method.setdefault(row["method"], {})[row["split"]] = row
    for method, by_split in rows_by_method.items():
        cells = [Cell(text.name_of(run, method))]
        for name in ("correct", "wrong"):
            split_row = by_split.get(name, {})
            cells.append(count_cell(split_row.get("n", 0)))
            cells.append(text.statistic_cell(split_row, value, value.lead))
        missing = text.without_value(" ".join(row["statuses"] for row in by_split.values()))
        if num_unknown := by_split.get("unknown", {}).get("n", 0):
            missing = f"class unknown: {num_unknown}, {missing}"
        yield (*cells, Cell(missing))


STATUSES_HEADER = ("Metrics", "Status", "Methods", "Rows of each")


def status_table(run: RunFolder) -> Table:
    """Return the table of statuses other than ok. If all are ok, it has no rows and a sentence that
    says so.
    """
    groups = []
    for setting in run.settings:
        rows = tuple(_status_rows(run, rows_at(run.summary, setting)))
        if rows:
            groups.append(Group(run.label(setting), rows))
    notes = () if groups else ("Every row has status ok.",)
    return Table(
        "statuses", "Statuses other than ok", STATUSES_HEADER, tuple(groups), notes, text_columns=3
    )


def _status_rows(run: RunFolder, summary: pd.DataFrame) -> Iterator[tuple[Cell, ...]]:
    """Yield one row for all metrics with the same status of the same methods in as many rows."""
    titles_by_status: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    image_metrics = set(summary.loc[~summary["whole_set"].astype(bool), "metric"])
    for value, whole_set, rows in text.by_metric(run, summary):
        if whole_set and value.name in image_metrics:
            continue  # the metric's values of images have the same statuses
        for (status, row_count), methods in text.methods_by_status(rows).items():
            titles_by_status.setdefault((status, row_count, methods), []).append(value.title)
    for (status, row_count, methods), titles in titles_by_status.items():
        yield (
            Cell("; ".join(titles)),  # titles have commas of their own
            Cell(status),
            Cell(text.names_of(run, methods)),
            Cell(row_count),
        )


RUNTIME_ABSENT = "Run time wasn't measured in this run; runtime.repeats=5 measures it."
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
    "Each step on a fresh trace. Forwards: its time in plain forward passes of the model, "
    "measured in turn. fwd / bwd: passes through trunk and head, counted per image. A dash: not "
    "known on this device."
)


def runtime_table(run: RunFolder) -> Table:
    """Return the table of run times, with one group for each model and layer. If nothing was timed,
    a sentence says so.
    """
    entries = run.runtime.assign(step=pd.Categorical(run.runtime["step"], STEPS, ordered=True))
    entries = entries.sort_values(["model", "layer", "step", "method"])
    groups = []
    for (model, layer), rows in entries.groupby(["model", "layer"], observed=True):
        cells = tuple(_runtime_row(run, entry) for entry in rows.to_dict("records"))
        groups.append(Group(f"{model} {layer}", cells))
    notes = (RUNTIME_NOTE,) if groups else (RUNTIME_ABSENT,)
    return Table(
        "runtime", "Run time", RUNTIME_HEADER, tuple(groups), notes, text_columns=2, text_last=True
    )


def _runtime_row(run: RunFolder, entry: text.Row) -> tuple[Cell, ...]:
    """Return the cells of one timed step."""
    method = str(entry["method"])
    cells = [
        Cell(str(entry["step"]).replace("_", " ")),
        Cell(NOTHING if method == METHOD_FREE else run.metadata.method_title(method)),
        number_cell(entry["milliseconds_per_image"]),
        number_cell(entry["forwards"]),
    ]
    for part in ("trunk", "head"):
        forward = entry[f"{part}_forward"]
        backward = entry[f"{part}_backward"]
        cells.append(Cell(f"{forward:g} / {backward:g}", numbers=(forward, backward)))
    mebibytes = entry["peak_memory_bytes"] / 2**20
    return (
        *cells,
        number_cell(mebibytes, NOTHING if pd.isna(mebibytes) else f"{mebibytes:,.0f}"),
        count_cell(entry["batch_size"]),
        Cell(str(entry["device"])),
    )


_NUMBERS = (
    "images",
    "n",
    "rows",
    "mean",
    "mean_low",
    "mean_high",
    "median",
    "median_low",
    "median_high",
    "standard_error",
)
_COMMON = ("compared", "common_images", "common_n", "common_mean", "common_median")


def long_frame(run: RunFolder) -> pd.DataFrame:
    """Return one row for each setting, method, metric and split (all, correct, wrong, unknown).
    Column n counts the rows with status ok. Columns common_... are of the rows that all compared
    methods have, see `statistics.common`.
    """
    rows = pd.concat([run.summary.assign(split="all"), run.split_summary], ignore_index=True)
    for column in ("unit", "better"):
        entries = {name: getattr(run.metadata.value(name), column) for name in run.metrics}
        rows[column] = rows["metric"].astype(str).map(entries)
    return rows[[*KEYS, "split", "unit", "better", *_NUMBERS, *_COMMON, "statuses"]]


def wide_frame(run: RunFolder) -> pd.DataFrame:
    """Return one row for each setting and method: "<metric> mean", "<metric> median", "<metric> n",
    ..., and the milliseconds that the method takes after the trace. The row of method "-" has the
    milliseconds of the trace itself.
    """
    keys = ["model", "layer", "data", "method"]
    summary = run.summary
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
    method_times = []
    for *place, method in table[keys].astype(str).to_numpy():
        method_times.append(times[Setting(*place)].get(method, float("nan")))
    return table.assign(milliseconds_per_image=method_times).convert_dtypes()
