"""The methods and metrics that `report.*` names, checked before a run: a misspelt one would silently show nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from axiom_bench import methods as all_methods
from axiom_bench import metrics as all_metrics
from axiom_bench.errors import BenchError, unknown
from axiom_bench.evaluation.plugins import Plugin, value_names, whole_set_value_names
from axiom_bench.report.options import Options, check_names


def check_report(config: Mapping[str, Any], methods: Sequence[Plugin], metrics: Sequence[Plugin]) -> None:
    """Raises BenchError, with the nearest names, for a method or value that `report.*` names and no run could have.

    What `report.compare` names must be in this run.
    """
    options = Options.of(config)
    names = [method.name for method in methods]
    if options.compare is not None and options.compare not in names:
        raise unknown("method in this run", options.compare, names)
    names += all_methods.names()
    values = _values(metrics)
    try:
        check_names(options, names, values)
    except BenchError:  # not of this run: then of any metric, whose modules are imported for that
        check_names(options, names, values | _values([all_metrics.get(name) for name in all_metrics.names()]))


def _values(metrics: Sequence[Plugin]) -> set[str]:
    """The names of all values of the metrics, of an image and of the whole data set."""
    return {name for metric in metrics for name in (*value_names(metric), *whole_set_value_names(metric))}
