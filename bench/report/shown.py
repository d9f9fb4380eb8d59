"""The part of a run that a report shows: other `report.*` settings, fewer methods, other titles and
another order of methods.

Nothing is computed for it. The manifest is changed as if the run had only the shown methods, so
that every test, place, chart and table is that of a run with only these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from axiom_bench.columns import LAYER
from axiom_bench.errors import BenchError, unknown_name
from axiom_bench.records import reading
from axiom_bench.records.entries import Manifest
from axiom_bench.report.options import Options, check_keys
from axiom_bench.statistics.labels import Setting, rows_at
from axiom_bench.statistics.run_folder import RunFolder, View
from axiom_bench.statistics.summary import leading_rows


@dataclass(frozen=True)
class Changes:
    """The settings of one `axiom-bench report` command, which count for this page only."""

    report: Mapping[str, object] = field(default_factory=dict)
    """The settings `report.*`, such as {"headline": ["box_iou"], "figures": {"grid": None}}."""
    method_titles: Mapping[str, str] = field(default_factory=dict)
    """{method: its title on the page}."""
    metric_titles: Mapping[str, str] = field(default_factory=dict)
    """{value of a metric: its title on the page}."""
    words: tuple[str, ...] = ()
    """The settings as they were typed."""


def read_run(
    folder: Path, changes: Changes | None = None, manifest: Manifest | None = None
) -> RunFolder:
    """Read the part of a run that its report shows.

    Args:
        folder: The run folder.
        changes: The settings that replace those of the run.
        manifest: The manifest; by default the one in the folder.

    Raises:
        BenchError: As `RunFolder.read` does, and for a setting or name that doesn't exist.
    """
    changes = changes or Changes()
    manifest = with_changes(manifest or reading.read_manifest(folder), changes)
    options = Options.of(manifest.config.report)
    shown = with_methods(manifest, options.methods)
    left_out = tuple(name for name in manifest.methods if name not in shown.methods)
    return RunFolder.of(folder, shown, View(options.level, left_out, changes.words))


def with_changes(manifest: Manifest, changes: Changes) -> Manifest:
    """Return the manifest with other `config.report` settings and titles.

    Raises:
        BenchError: If a key or a name is unknown; the message has the nearest name.
    """
    check_keys(changes.report)
    report = dict(manifest.config.report)
    for key, value in changes.report.items():
        if isinstance(value, Mapping):  # the other entries of a group stay
            value = {**(report.get(key) or {}), **value}
        report[key] = value
    methods = dict(manifest.methods)
    for name, title in changes.method_titles.items():
        if name not in methods:
            raise unknown_name("method", name, methods, place="in this run")
        methods[name] = methods[name].model_copy(update={"title": title})
    metrics = dict(manifest.metrics)
    for name, title in changes.metric_titles.items():
        if name not in metrics:
            raise unknown_name("metric", name, metrics, place="in this run")
        metrics[name] = metrics[name].model_copy(update={"title": title})
    config = manifest.config.model_copy(update={"report": report})
    return manifest.model_copy(update={"config": config, "methods": methods, "metrics": metrics})


def with_methods(manifest: Manifest, names: Sequence[str] | None) -> Manifest:
    """Return the manifest of a run with only these methods, in this order. `None` keeps all, and so
    do names of which the run has none.
    """
    methods = {}
    for name in names or ():
        if name in manifest.methods:
            methods[name] = manifest.methods[name]
    if not methods:
        return manifest
    jobs = []
    for job in manifest.jobs:
        values = {name: job.values[name] for name in (LAYER, *methods) if name in job.values}
        jobs.append(job.model_copy(update={"values": values}))
    update: dict[str, object] = {"methods": methods, "jobs": jobs}
    if manifest.published is not None:
        update["published"] = [name for name in manifest.published if name in methods]
    return manifest.model_copy(update=update)


def methods_in_order(run: RunFolder, setting: Setting) -> tuple[str, ...]:
    """Return the run's methods, the best value of `report.sort` in this setting first.

    If neither direction is better, the largest value is first. Methods without a value are last.
    Methods with the same value, and all methods without `report.sort`, are in the run's order.
    """
    metric = Options.of(run.config.report).sort
    if metric is None or metric not in run.metrics:
        return run.methods
    statistics = _statistics(run, setting, metric)
    sign = 1 if run.metadata.value(metric).better == "lower" else -1
    ranks = {name: sign * statistic for name, statistic in statistics.items()}
    return tuple(sorted(run.methods, key=lambda name: ranks.get(name, math.inf)))


def _statistics(run: RunFolder, setting: Setting, metric: str) -> dict[str, float]:
    """Return {method: the number that tables print} of the methods that have one."""
    lead = run.metadata.value(metric).lead
    rows = leading_rows(run.summary[run.summary["metric"] == metric])
    statistics: dict[str, float] = {}
    for row in rows_at(rows, setting).to_dict("records"):
        statistic = float(row["mean"] if row["whole_set"] else row[lead])
        if math.isfinite(statistic):
            statistics[row["method"]] = statistic
    return statistics


def check_order(run: RunFolder) -> None:
    """Raise BenchError if no method has a value of the metric of `report.sort`."""
    metric = Options.of(run.config.report).sort
    if metric is None or _has_values(run, metric):
        return
    sortable = [name for name in run.metrics if _has_values(run, name)]
    message = f"report.sort={metric} can't sort the methods: none has a value of {metric}."
    if sortable:
        message += f" Sort by a metric with values, such as report.sort={sortable[0]}."
    raise BenchError(message)


def _has_values(run: RunFolder, metric: str) -> bool:
    """Return whether a method has a value of a metric in some setting."""
    return any(_statistics(run, setting, metric) for setting in run.settings)


def order_note(run: RunFolder) -> str:
    """Return the sentence on the order of the methods; "" for the run's own order."""
    metric = Options.of(run.config.report).sort
    if metric is None or metric not in run.metrics:
        return ""
    if not _has_values(run, metric):
        return f"report.sort={metric} changes nothing, because no method has a value of it."
    value = run.metadata.value(metric)
    first = "the best value" if value.has_direction else "the largest value"
    return f"Methods are sorted by {value.title}, {first} first (report.sort={metric})."
