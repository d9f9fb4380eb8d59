"""Values of a whole data set, rows with image id `*`: what a metric's `aggregate` makes of all images' curves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import NO_IMAGE, NOT_FINITE, OK, UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, whole_set_value_names


def aggregating(metrics: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """Those of the metrics whose YAML names an `aggregate`."""
    return tuple(metric for metric in metrics if metric.spec.aggregate)


def aggregate(metric: Plugin) -> Plugin:
    """The function that `aggregate` names, with those of the metric's parameters bound that it takes.

    Raises BenchError where it can't be imported or takes no mapping of curves.
    """
    target = str(metric.spec.aggregate)
    params = plugins.taken(plugins.imported("metric", metric.name, target), metric.params)
    return plugins.from_config("metric", metric.name, {"_target_": target, "params": params})


def whole_set(metrics: Sequence[Plugin], method: str, curves: pd.DataFrame) -> dict[str, np.ndarray]:
    """The records' columns of one method's values of the whole data set, one row for each value.

    curves: CURVE_COLUMNS, all images of one model, layer and method; only rows with status "ok" count. A value that
    isn't finite is NaN with status "not_finite", "no_image" where no image counts.
    Raises BenchError where an aggregate doesn't return its values.
    """
    known = curves[curves["status"] == OK]
    found = {name: value for metric in metrics for name, value in _values(metric, known).items()}
    values = np.array([value for value, _ in found.values()], dtype=np.float64)
    texts = {"image_id": WHOLE_SET, "method": method}
    return {
        **{name: np.full(len(found), text, dtype=object) for name, text in texts.items()},
        **{name: np.full(len(found), UNKNOWN_CLASS) for name in ("target_class", "predicted_class")},
        "metric": np.array(list(found), dtype=object),
        "value": values,
        "status": np.array([status for _, status in found.values()], dtype=object),
    }


def _values(metric: Plugin, curves: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """{value name: (value, status)} of one metric."""
    names, arrays = whole_set_value_names(metric), dict(stacked(curves, metric.spec.curves))
    if not arrays:
        return dict.fromkeys(names, (np.nan, NO_IMAGE))
    answer = named(metric, aggregate(metric)(arrays))
    exact = {name: float(answer[name]) for name in names}
    return {name: (value, OK) if np.isfinite(value) else (np.nan, NOT_FINITE) for name, value in exact.items()}


def named(metric: Plugin, answer: Any) -> Mapping[str, Any]:
    """What an aggregate answered. Raises BenchError where it isn't a mapping of the metric's value names."""
    names = whole_set_value_names(metric)
    if not isinstance(answer, Mapping) or set(answer) != set(names):
        raise BenchError(
            f"The aggregate of {metric.name!r} must return a dict of {', '.join(names)}; it gave {answer!r}."
        )
    return answer


def stacked(curves: pd.DataFrame, names: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Each curve of all images, (N, n), where there is one."""
    for name in names:
        points: Any = curves.loc[curves["curve"] == name, "points"]
        if len(points):
            yield name, np.stack(list(points))
