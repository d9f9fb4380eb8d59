"""Metrics of explanations: preconditions before, statuses after, a check of the values' names.

Beside a GPU, metrics that read maps and annotations alone are measured on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NO_MAP, NOT_APPLICABLE, NOT_FINITE, OK
from axiom_bench.cutting.output import described
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.answers import MetricCall, answer_all
from axiom_bench.evaluation.plugins import Plugin, needs_of, value_names
from axiom_bench.evaluation.preconditions import look_up, statuses
from axiom_bench.evaluation.specs import MAPS, MetricSpec
from axiom_bench.evaluation.stopwatch import Watch, untimed
from axiom_bench.explanation.explanation import Curve, Explanation

Metric = Plugin[MetricSpec]
Statuses = tuple[str, ...]
Measured = dict[str, tuple[Tensor, Statuses]]
Returned = Mapping[str, Any]  # what a metric returned, by the names of its values
CPU = torch.device("cpu")


@dataclass
class Measurement:
    """Metrics of one explanation. values: name -> (float64 (B,), B statuses). curves: name -> ((B, n), B statuses).

    axes: how to draw the curves that have places on the x axis: {curve: {at, x, y, title, better}}.
    """

    values: Measured = field(default_factory=dict)
    curves: Measured = field(default_factory=dict)
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)


def measure(metric: Metric, explanation: Explanation, on_score_scale: bool) -> Measured:
    """The values and curves of one metric with its preconditions; see `measure_all`."""
    (measurement,) = measure_all([metric], [(explanation, on_score_scale)])
    return measurement.values | measurement.curves


def measure_all(
    metrics: Sequence[Metric],
    explanations: Sequence[tuple[Explanation | None, bool]],
    others: Sequence[Metric] = (),
    watch: Watch = untimed,
) -> list[Measurement]:
    """A Measurement for each explanation, which comes with whether its method is on the score's scale.

    others: metrics that are measured elsewhere, whose names are taken. watch: is told of the passes. Requests of the
    metrics are answered for all of them together. Where an explanation is None, the measurement is empty. A metric
    isn't called where no row meets its needs. Else it gets all rows, and the values of rows that don't meet them become
    NaN, with the status of the first need that isn't met. NaN where all needs are met has the status `undefined` of the
    metric's YAML file; infinity has "not_finite". Where a metric explains again, and the method has no map of that, all
    rows are "no_map". Raises BenchError for a value of another shape or an undeclared name, and where a metric does,
    with its name.
    """
    measurements = [Measurement() for _ in explanations]
    applicable = [(place, *each) for place, each in zip(measurements, explanations, strict=True)]
    asked = [(place, explanation, scale) for place, explanation, scale in applicable if explanation is not None]
    look_up(
        (needs_of(metric), explanation, scale)
        for _, explanation, scale in asked
        for metric in metrics
        if explanation.dimensions in metric.dimensions
    )
    of_maps = _maps_on_cpu([each for _, each, _ in asked]) if any(map(reads_maps, metrics)) else [None] * len(asked)
    for is_foreign in (False, True):  # what users' own change reaches no value of the suite's own
        calls: list[tuple[Measurement, Metric, np.ndarray, MetricCall | None]] = []
        for (measurement, explanation, scale), maps in zip(asked, of_maps, strict=True):
            for metric in (metric for metric in metrics if metric.is_foreign == is_foreign):
                if explanation.dimensions in metric.dimensions:
                    met = statuses(needs_of(metric), explanation, scale)
                else:
                    met = np.full(len(explanation), NOT_APPLICABLE, dtype=object)
                read = maps if maps is not None and reads_maps(metric) else explanation
                calls.append((measurement, metric, met, _start(metric, read) if (met == OK).any() else None))
        answer_all([call for *_, call in calls if call is not None], watch)
        answers = iter(on_cpu([_returned(metric, call.result) for _, metric, _, call in calls if call is not None]))
        for measurement, metric, met, call in calls:
            answer = None if call is None else next(answers)
            if call is not None and call.no_map:
                met[met == OK], answer = NO_MAP, None
            if answer is None:
                measurement.values |= without_values([metric], tuple(met)).values
            else:
                taken = {name for other in (*metrics, *others) if other is not metric for name in _names(other)}
                _add(measurement, metric, answer, met, taken | {*measurement.values, *measurement.curves})
    return measurements


def _start(metric: Metric, explanation: Explanation) -> MetricCall:
    """The metric up to its first request. Raises BenchError for a request of one that reads maps alone."""
    task = MetricCall.start(metric, explanation)
    if task.request is not None and reads_maps(metric):
        raise BenchError(
            f"The metric {metric.name!r} asks the model, and its `reads: {MAPS}` says that it reads maps and "
            f"annotations alone; leave metric.{metric.name}.reads out."
        )
    return task


def without_values(metrics: Iterable[Metric], row_statuses: Statuses) -> Measurement:
    """NaN in each value of the metrics, with a status for each row."""
    nothing = torch.full((len(row_statuses),), torch.nan, dtype=torch.float64)
    return Measurement({name: (nothing, row_statuses) for metric in metrics for name in value_names(metric)})


def check_names(metrics: Iterable[Metric]) -> None:
    """Raises BenchError where two metrics declare a value or a curve of the same name."""
    owners: dict[str, str] = {}
    for metric in metrics:
        for name in _names(metric):
            if owners.setdefault(name, metric.name) != metric.name:
                raise BenchError(
                    f"The metrics {owners[name]!r} and {metric.name!r} both declare {name!r}; give one of them other "
                    f"names under metric.{metric.name}.values, or leave it out."
                )


def _names(metric: Metric) -> tuple[str, ...]:
    """The names of all values and curves that a metric declares."""
    return (*value_names(metric), *metric.spec.curves)


def _returned(metric: Metric, result: Any) -> Returned:
    return result if isinstance(result, Mapping) else {metric.name: result}


def _add(measurement: Measurement, metric: Metric, returned: Returned, met: np.ndarray, taken: set[str]) -> None:
    """The values and curves that a metric returned, with their statuses. taken: names of other metrics' values.

    Raises BenchError for a name that isn't the metric's own, and for a declared value that is missing.
    """
    values = value_names(metric)
    for name in returned:
        if metric.bare and name in taken:
            raise BenchError(
                f"The metric {metric.name!r} returned {name!r}, another metric's name; return it under one of its own."
            )
        if not metric.bare and name not in _names(metric):
            raise BenchError(
                f"The metric {metric.name!r} returned {name!r}, which it doesn't declare; its values are "
                f"{', '.join(values)}. List all of them under metric.{metric.name}.values, and curves under .curves."
            )
    for name in () if metric.bare else values:
        if name not in returned:
            raise BenchError(f"The metric {metric.name!r} declares the value {name!r} and didn't return it.")
    for name, answer in returned.items():
        if name not in metric.spec.curves and not isinstance(answer, Curve):
            measurement.values[name] = _judged(metric, answer, met, 1)
            continue
        measurement.curves[name] = _judged(metric, answer.points if isinstance(answer, Curve) else answer, met, 2)
        if isinstance(answer, Curve) and (axes := answer.axes(metric.spec.better)) is not None:
            measurement.axes[name] = axes


def _judged(metric: Metric, values: Any, met: np.ndarray, dimensions: int) -> tuple[Tensor, Statuses]:
    """Values (B,) or points (B, n), NaN where the status isn't "ok", and the statuses. values: as `on_cpu` has them."""
    is_real = isinstance(values, Tensor) and not values.is_complex()
    if not is_real or values.ndim != dimensions or values.shape[:1] != met.shape:
        raise BenchError(
            f"The metric {metric.name!r} returned {described(values)}; a metric returns one real value per image, "
            f"a tensor of shape ({len(met)},), or a dict of such tensors and of declared Curves."
        )
    points = values.reshape(len(values), -1)
    status = np.where((met == OK) & points.isnan().any(1).numpy(), metric.spec.undefined, met)
    status = np.where((met == OK) & points.isinf().any(1).numpy(), NOT_FINITE, status)
    missing = torch.from_numpy(status != OK)
    return values.masked_fill(missing[:, None] if dimensions == 2 else missing, torch.nan), tuple(status)


def on_cpu(answers: Sequence[Returned]) -> list[dict[str, Any]]:
    """The answers with float64 copies on the CPU for tensors and the points of curves; anything else stays as it is."""
    tensors = [_tensor(answer) for returned in answers for answer in returned.values()]
    copies = iter(_copies([tensor for tensor in tensors if tensor is not None]))

    def with_copy(answer: Any) -> Any:
        if _tensor(answer) is None:
            return answer
        return replace(answer, points=next(copies)) if isinstance(answer, Curve) else next(copies)

    return [{name: with_copy(answer) for name, answer in returned.items()} for returned in answers]


def _tensor(answer: Any) -> Tensor | None:
    values = answer.points if isinstance(answer, Curve) else answer
    return values.detach() if isinstance(values, Tensor) and not values.is_complex() else None


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    """float64 copies on the CPU, in the same shapes; those from a GPU all at once."""
    copies = [tensor.to(torch.float64) for tensor in tensors]
    places = [place for place, tensor in enumerate(tensors) if tensor.device != CPU]
    if places:
        there = [copies[place] for place in places]
        together = torch.cat([tensor.reshape(-1) for tensor in there]).cpu()
        for place, part in zip(places, together.split([tensor.numel() for tensor in there]), strict=True):
            copies[place] = part.reshape(tensors[place].shape)
    return copies


def reads_maps(metric: Metric) -> bool:
    """Whether the metric says that it reads maps and annotations alone."""
    return metric.spec.reads == MAPS


def maps_alone(explanation: Explanation) -> Explanation:
    """What a metric with `reads: maps` may read."""
    return replace(explanation, trace=None, contributions=None, images=None, method=None)


def _maps_on_cpu(explanations: Sequence[Explanation]) -> list[Explanation | None]:
    """Beside a GPU their maps and annotations alone, on the CPU; None for those that are there. One wait for all."""
    copies: list[Explanation | None] = []
    for each in explanations:
        if each.heatmap is None or each.heatmap.device == CPU:
            copies.append(None)
            continue
        heatmap, raw_map = (
            None if of is None else of.to(CPU, non_blocking=True) for of in (each.heatmap, each.raw_map)
        )
        copies.append(replace(maps_alone(each), heatmap=heatmap, raw_map=raw_map, made=heatmap))
    devices = {each.heatmap.device for each in explanations if each.heatmap is not None and each.heatmap.is_cuda}
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    return copies
