"""The names that `report.*` gives, checked before a run: a misspelt one would be missing from the report in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from axiom_bench import metrics as all_metrics
from axiom_bench.errors import unknown
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names

LISTS = ("headline", "columns")


def check_report(config: Mapping[str, Any], methods: Sequence[Plugin], metrics: Sequence[Plugin]) -> None:
    """Raises BenchError, with the nearest names, for a value or method that `report.*` names and no run could have."""
    report = config["report"]
    compare = report.get("compare")
    names = [method.name for method in methods]
    if compare is not None and compare not in names:
        raise unknown("method in this run", str(compare), names)
    values = _values(metrics)
    requested = [(key, str(name)) for key in LISTS for name in report[key]]
    if all(name in values for _, name in requested):
        return
    values |= _values([all_metrics.get(name) for name in all_metrics.names()])
    for key, name in requested:
        if name not in values:
            raise unknown(f"value of a metric for report.{key}", name, values)


def _values(metrics: Sequence[Plugin]) -> set[str]:
    """The names of all values of the metrics, of an image and of the whole data set."""
    return {name for metric in metrics for name in (*value_names(metric), *whole_set_value_names(metric))}
