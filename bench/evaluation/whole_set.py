"""The values of a whole data set, which a metric's `aggregate` computes from the curves of all
images.

Their rows have the image id `*`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from axiom_bench.columns import NO_IMAGE, NOT_FINITE, OK, UNKNOWN_CLASS, WHOLE_SET
from axiom_bench.errors import BenchError
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.plugins import AnyPlugin, Metric, whole_set_value_names


def aggregating(metrics: Iterable[Metric]) -> tuple[AnyPlugin, ...]:
    """Return the metrics whose YAML file has an `aggregate`."""
    return tuple(metric for metric in metrics if metric.spec.aggregate)


def aggregate(metric: Metric) -> AnyPlugin:
    """Return the function at the path `aggregate`, with those of the metric's parameters bound that
    it accepts.

    Raises:
        BenchError: if the function can't be imported or takes no mapping of curves.
    """
    target = str(metric.spec.aggregate)
    params = plugins.accepted_params(plugins.imported("metric", metric.name, target), metric.params)
    return plugins.from_config("metric", metric.name, {"_target_": target, "params": params})


def whole_set_columns(
    metrics: Sequence[Metric], method: str, curves: pd.DataFrame
) -> dict[str, np.ndarray]:
    """Return the records' columns of one method's values of the whole data set, with one row per
    value.

    Args:
        metrics: metrics that have an aggregate.
        method: the method's name.
        curves: the curves of all images of one model, layer and method, with CURVE_COLUMNS.

    Raises:
        BenchError: if an aggregate doesn't return its values.
    """
    rows: dict[str, tuple[float, str]] = {}
    for metric in metrics:
        rows.update(values(metric, curves))
    count = len(rows)
    numbers = [value for value, _ in rows.values()]
    statuses = [status for _, status in rows.values()]
    # a value of all images is about no class
    unknown_classes = np.full(count, UNKNOWN_CLASS)
    return {
        "image_id": np.full(count, WHOLE_SET, dtype=object),
        "method": np.full(count, method, dtype=object),
        "target_class": unknown_classes,
        "predicted_class": unknown_classes,
        "metric": np.array(list(rows), dtype=object),
        "value": np.array(numbers, dtype=np.float64),
        "status": np.array(statuses, dtype=object),
    }


def values(metric: Metric, curves: pd.DataFrame) -> dict[str, tuple[float, str]]:
    """Return {value name: (value, status)} of one metric and method. Only curves with status "ok"
    count.

    A value that isn't finite becomes NaN with the status "not_finite". If no image counts, the
    status is "no_image".

    Raises:
        BenchError: if the aggregate doesn't return its values.
    """
    names = whole_set_value_names(metric)
    points_by_curve = _stacked_points(curves, metric)
    if not points_by_curve:
        return dict.fromkeys(names, (np.nan, NO_IMAGE))
    answer = checked(metric, aggregate(metric)(points_by_curve))
    numbers = {name: float(answer[name]) for name in names}
    return {
        name: (number, OK) if np.isfinite(number) else (np.nan, NOT_FINITE)
        for name, number in numbers.items()
    }


def image_ids(metric: Metric, curves: pd.DataFrame) -> list[str]:
    """Return the image of each row of the metric's curves, which is the same for all curves.

    Raises:
        BenchError: if the curves have different images.
    """
    ok = curves[curves["status"] == OK]
    ids_by_curve = [ok.loc[ok["curve"] == name, "image_id"].tolist() for name in metric.spec.curves]
    ids_by_curve = [ids for ids in ids_by_curve if ids]
    if any(ids != ids_by_curve[0] for ids in ids_by_curve):
        raise BenchError(
            f"The metric {metric.name!r} has curves of different images; return NaN for an image "
            "in all curves or in none."
        )
    return ids_by_curve[0] if ids_by_curve else []


def resampled_values(
    metric: Metric, curves: pd.DataFrame, counts: np.ndarray
) -> dict[str, np.ndarray]:
    """Return {value name: (R,)} of R resamples.

    If the aggregate accepts `counts`, it computes all resamples at once. Otherwise it is called for
    one resample after the other, with repeated rows.

    Args:
        metric: a metric that has an aggregate.
        curves: its curves of all images.
        counts: how often each of the n rows (see `image_ids`) is drawn in each resample, (R, n).

    Raises:
        BenchError: if the aggregate doesn't return its values.
    """
    points_by_curve = _stacked_points(curves, metric)
    function = aggregate(metric)
    # both ways give the same values; counts take one call instead of one for each resample
    if "counts" in inspect.signature(function.call).parameters:
        return dict(checked(metric, function.call(points_by_curve, counts=counts)))
    answers = []
    for row_counts in counts.astype(int):
        resample = {
            name: points.repeat(row_counts, axis=0) for name, points in points_by_curve.items()
        }
        answers.append(checked(metric, function(resample)))
    return {
        name: np.array([answer[name] for answer in answers])
        for name in whole_set_value_names(metric)
    }


def checked(metric: Metric, answer: object) -> Mapping[str, Any]:
    """Return an aggregate's result. Raise BenchError unless it is a mapping of the metric's value
    names.
    """
    names = whole_set_value_names(metric)
    if not isinstance(answer, Mapping) or set(answer) != set(names):
        raise BenchError(
            f"The aggregate of {metric.name!r} must return a dict of {', '.join(names)}; it gave "
            f"{answer!r}."
        )
    return answer


def _stacked_points(curves: pd.DataFrame, metric: Metric) -> dict[str, np.ndarray]:
    """Return the points (N, n) of the metric's curves that have any image with status "ok", by the
    curve's name.
    """
    ok = curves[curves["status"] == OK]
    points = {name: list(ok.loc[ok["curve"] == name, "points"]) for name in metric.spec.curves}
    return {name: np.stack(rows) for name, rows in points.items() if rows}
