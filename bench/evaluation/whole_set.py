"""Values of a whole data set, rows with image id `*`: the results of a metric's `aggregate` of all images' curves."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import NO_IMAGE, NOT_FINITE, OK, UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import Plugin, whole_set_value_names


def aggregating(metrics: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """The metrics whose YAML names an `aggregate`."""
    return tuple(metric for metric in metrics if metric.spec.aggregate)


def aggregate(metric: Plugin) -> Plugin:
    """The function that `aggregate` names, with the metric's parameters bound that it accepts.

    Raises BenchError where it can't be imported or takes no mapping of curves.
    """
    target = str(metric.spec.aggregate)
    params = plugins.accepted_params(plugins.imported("metric", metric.name, target), metric.params)
    return plugins.from_config("metric", metric.name, {"_target_": target, "params": params})


def whole_set(metrics: Sequence[Plugin], method: str, curves: pd.DataFrame) -> dict[str, np.ndarray]:
    """The records' columns of one method's values of the whole data set, one row for each value.

    curves: CURVE_COLUMNS, all images of one model, layer and method. Statuses: see `values`.
    Raises BenchError where an aggregate doesn't return its values.
    """
    rows = {name: entry for metric in metrics for name, entry in values(metric, curves).items()}
    texts = {"image_id": WHOLE_SET, "method": method}
    return {
        **{name: np.full(len(rows), text, dtype=object) for name, text in texts.items()},
        **{name: np.full(len(rows), UNKNOWN_CLASS) for name in ("target_class", "predicted_class")},
        "metric": np.array(list(rows), dtype=object),
        "value": np.array([value for value, _ in rows.values()], dtype=np.float64),
        "status": np.array([status for _, status in rows.values()], dtype=object),
    }


def values(metric: Plugin, curves: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """{value name: (value, status)} of one metric and method; only curves with status "ok" count.

    A value that isn't finite is NaN with status "not_finite", "no_image" where no image counts.
    Raises BenchError where the aggregate doesn't return its values.
    """
    names, arrays = whole_set_value_names(metric), _stacked(curves, metric)
    if not arrays:
        return dict.fromkeys(names, (np.nan, NO_IMAGE))
    answer = checked(metric, aggregate(metric)(arrays))
    exact = {name: float(answer[name]) for name in names}
    return {name: (value, OK) if np.isfinite(value) else (np.nan, NOT_FINITE) for name, value in exact.items()}


def image_ids(metric: Plugin, curves: pd.DataFrame) -> list[str]:
    """The image of each row of the metric's curves, the same for all of them. Raises BenchError where they differ."""
    ok = curves[curves["status"] == OK]
    ids = [ok.loc[ok["curve"] == name, "image_id"].tolist() for name in metric.spec.curves]
    ids = [rows for rows in ids if rows]
    if any(rows != ids[0] for rows in ids):
        raise BenchError(f"The curves of {metric.name!r} aren't of the same rows.")
    return ids[0] if ids else []


def resampled_values(metric: Plugin, curves: pd.DataFrame, counts: np.ndarray) -> dict[str, np.ndarray]:
    """{value name: (R,)} of R resamples. counts: (R, n), how often each of the n rows (see `image_ids`) is drawn.

    All at once where the aggregate accepts `counts`, else one resample after the other with repeated rows.
    Raises BenchError where the aggregate doesn't return its values.
    """
    arrays, call = _stacked(curves, metric), aggregate(metric)
    if "counts" in inspect.signature(call.call).parameters:
        return dict(checked(metric, call.call(arrays, counts=counts)))
    answers = [
        checked(metric, call({name: points.repeat(row, axis=0) for name, points in arrays.items()}))
        for row in counts.astype(int)
    ]
    return {name: np.array([answer[name] for answer in answers]) for name in whole_set_value_names(metric)}


def checked(metric: Plugin, answer: Any) -> Mapping[str, Any]:
    """An aggregate's result. Raises BenchError where it isn't a mapping of the metric's value names."""
    names = whole_set_value_names(metric)
    if not isinstance(answer, Mapping) or set(answer) != set(names):
        raise BenchError(
            f"The aggregate of {metric.name!r} must return a dict of {', '.join(names)}; it gave {answer!r}."
        )
    return answer


def _stacked(curves: pd.DataFrame, metric: Plugin) -> dict[str, np.ndarray]:
    """Each curve of the metric, of all images with status "ok", (N, n), where there is one."""
    ok = curves[curves["status"] == OK]
    points = {name: list(ok.loc[ok["curve"] == name, "points"]) for name in metric.spec.curves}
    return {name: np.stack(rows) for name, rows in points.items() if rows}
