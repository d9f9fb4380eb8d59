"""The order of the methods in tables and charts, which `report.sort` chooses."""

from __future__ import annotations

import math

from axiom_bench.report.options import Options
from axiom_bench.statistics.labels import Setting, rows_at
from axiom_bench.statistics.run_folder import RunFolder
from axiom_bench.statistics.summary import leading_rows


def methods_in_order(run: RunFolder, setting: Setting) -> tuple[str, ...]:
    """Return the run's methods, the best value of `report.sort` in this setting first.

    If neither direction is better, the largest value is first. Methods without a value are last.
    Methods with the same value, and all methods without `report.sort`, are in the run's order.
    """
    metric = Options.of(run.config.report).sort
    if metric is None or metric not in run.metrics:
        return run.methods
    value = run.metadata.value(metric)
    rows = leading_rows(run.summary[run.summary["metric"] == metric])
    sign = 1 if value.better == "lower" else -1
    rank_of_method: dict[str, float] = {}
    for row in rows_at(rows, setting).to_dict("records"):
        statistic = float(row["mean"] if row["whole_set"] else row[value.lead])
        if math.isfinite(statistic):
            rank_of_method[row["method"]] = sign * statistic
    return tuple(sorted(run.methods, key=lambda name: rank_of_method.get(name, math.inf)))


def order_note(run: RunFolder) -> str:
    """Return the sentence on the order of the methods; "" for the run's own order."""
    metric = Options.of(run.config.report).sort
    if metric is None or metric not in run.metrics:
        return ""
    value = run.metadata.value(metric)
    first = "the best value" if value.has_direction else "the largest value"
    return f"Methods are sorted by {value.title}, {first} first (report.sort={metric})."
