"""The metrics of explanations: checks preconditions, calls metrics, and gives each value a status.

`measure_all` is the way from explanations to numbers for a run, for `axiom_bench.evaluate` and for
the command `explain`.

The names of the returned values are checked as well. If a GPU is used, metrics that read only maps
and annotations are still measured on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NO_MAP, NOT_APPLICABLE, NOT_FINITE, OK
from axiom_bench.cutting.output import described
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.answers import MetricCall, answer_all
from axiom_bench.evaluation.plugins import Metric, precondition_names, value_names
from axiom_bench.evaluation.preconditions import look_up, statuses
from axiom_bench.evaluation.specs import MAPS
from axiom_bench.evaluation.stopwatch import Watch, untimed
from axiom_bench.explanation.explanation import Curve, Explanation

Statuses = tuple[str, ...]
Measured = dict[str, tuple[Tensor, Statuses]]
Returned = Mapping[str, object]  # the result of a metric, by the names of its values
CPU = torch.device("cpu")


@dataclass
class Measurement:
    """The values and curves of several metrics of one explanation."""

    values: Measured = field(default_factory=dict)
    """{name: (float64 (B,), B statuses)}."""
    curves: Measured = field(default_factory=dict)
    """{name: (float64 (B, n), B statuses)}."""
    axes: dict[str, dict[str, object]] = field(default_factory=dict)
    """The axes of the curves that have positions on the x axis: {curve: {at, x, y, title, better}}.
    """


@dataclass
class _Call:
    """A metric of one explanation on its way to a measurement."""

    metric: Metric
    measurement: Measurement
    """The measurement that gets the values."""
    statuses: np.ndarray
    """Per row "ok", or the status of the first need that isn't met, (B,)."""
    task: MetricCall | None
    """The started metric. None: it isn't called, since no row meets its needs."""


def measure(metric: Metric, explanation: Explanation, on_score_scale: bool) -> Measured:
    """Return the values and curves of one metric with its preconditions; see `measure_all`."""
    (measurement,) = measure_all([metric], [(explanation, on_score_scale)])
    return measurement.values | measurement.curves


def measure_all(
    metrics: Sequence[Metric],
    explanations: Sequence[tuple[Explanation | None, bool]],
    others: Sequence[Metric] = (),
    watch: Watch = untimed,
) -> list[Measurement]:
    """Measure each explanation with all metrics, whose requests to the model are answered together.

    A metric isn't called if no row meets its needs. Otherwise it gets all rows, and the values of
    rows that don't meet its needs become NaN, with the status of the first need that isn't met. If
    all needs are met, NaN has the status `undefined` of the metric's YAML file, and infinity has
    "not_finite". If a metric explains again, and the method has no map of that, all rows are
    "no_map".

    Args:
        metrics: Metrics that may send requests to the model.
        explanations: Explanations, or None, and whether each one's method is on the score's scale.
        others: Metrics that are measured elsewhere, so their names are taken.
        watch: Called with the name of the passes' phase.

    Returns:
        A measurement per explanation, which is empty if the explanation is None.

    Raises:
        BenchError: With the metric's name, if a value has another shape or an undeclared name, or
            if the metric raises a BenchError.
    """
    measurements = [Measurement() for _ in explanations]
    present: list[tuple[Measurement, Explanation, bool]] = []
    for measurement, (explanation, on_score_scale) in zip(measurements, explanations, strict=True):
        if explanation is not None:
            present.append((measurement, explanation, on_score_scale))
    # on a GPU, one copy of all answers instead of one per explanation and metric
    look_up(
        (precondition_names(metric), explanation, on_score_scale)
        for _, explanation, on_score_scale in present
        for metric in metrics
        if explanation.dimensions in metric.dimensions
    )
    maps_on_cpu: Sequence[Explanation | None] = [None] * len(present)
    if any(map(reads_maps, metrics)):
        maps_on_cpu = _maps_on_cpu([explanation for _, explanation, _ in present])
    # users' own metrics come last, so their changes reach no value of the suite's own
    for is_foreign in (False, True):
        group = [metric for metric in metrics if metric.is_foreign == is_foreign]
        calls: list[_Call] = []
        for (measurement, explanation, on_score_scale), maps in zip(
            present, maps_on_cpu, strict=True
        ):
            for metric in group:
                if explanation.dimensions in metric.dimensions:
                    row_statuses = statuses(precondition_names(metric), explanation, on_score_scale)
                else:
                    row_statuses = np.full(len(explanation), NOT_APPLICABLE, dtype=object)
                argument = maps if maps is not None and reads_maps(metric) else explanation
                task = _start(metric, argument) if (row_statuses == OK).any() else None
                calls.append(_Call(metric, measurement, row_statuses, task))
        answer_all([call.task for call in calls if call.task is not None], watch)
        _collect(calls, [*metrics, *others])
    return measurements


def _start(metric: Metric, explanation: Explanation) -> MetricCall:
    """Call the metric up to its first request. Raise BenchError if it has one although it says that
    it reads maps.
    """
    task = MetricCall.start(metric, explanation)
    if task.request is not None and reads_maps(metric):
        raise BenchError(
            f"The metric {metric.name!r} asks the model, and its `reads: {MAPS}` says that it "
            f"reads only maps and annotations; leave metric.{metric.name}.reads out."
        )
    return task


def _collect(calls: Sequence[_Call], all_metrics: Sequence[Metric]) -> None:
    """Add the results of calls that have ended to their measurements; `all_metrics` are those of
    the run.
    """
    results = [_returned(call.metric, call.task.result) for call in calls if call.task is not None]
    copies = iter(copied_to_cpu(results))
    for call in calls:
        returned = None if call.task is None else next(copies)
        if call.task is not None and call.task.no_map:
            call.statuses[call.statuses == OK] = NO_MAP
            returned = None
        if returned is None:
            call.measurement.values |= without_values([call.metric], tuple(call.statuses)).values
            continue
        taken_names = {*call.measurement.values, *call.measurement.curves}
        for metric in all_metrics:
            if metric is not call.metric:
                taken_names.update(_names(metric))
        _add(call.measurement, call.metric, returned, call.statuses, taken_names)


def without_values(metrics: Iterable[Metric], row_statuses: Statuses) -> Measurement:
    """Return a measurement with NaN in each value of the metrics, and with a status for each
    row.
    """
    missing_values = torch.full((len(row_statuses),), torch.nan, dtype=torch.float64)
    measurement = Measurement()
    for metric in metrics:
        for name in value_names(metric):
            measurement.values[name] = (missing_values, row_statuses)
    return measurement


def check_names(metrics: Iterable[Metric]) -> None:
    """Raise BenchError if two metrics declare a value or a curve of the same name."""
    owners: dict[str, str] = {}
    for metric in metrics:
        for name in _names(metric):
            if owners.setdefault(name, metric.name) != metric.name:
                raise BenchError(
                    f"The metrics {owners[name]!r} and {metric.name!r} both declare {name!r}; "
                    f"give one of them other names under metric.{metric.name}.values, or leave it "
                    "out."
                )


def _names(metric: Metric) -> tuple[str, ...]:
    """Return the names of all values and curves that a metric declares."""
    return (*value_names(metric), *metric.spec.curves)


def _returned(metric: Metric, result: object) -> Returned:
    """Return a metric's result by the names of its values; a metric of one value returns only this
    value.
    """
    return result if isinstance(result, Mapping) else {metric.name: result}


def _add(
    measurement: Measurement,
    metric: Metric,
    returned: Returned,
    row_statuses: np.ndarray,
    taken_names: set[str],
) -> None:
    """Add the values and curves that a metric returned, with their statuses, to a measurement.

    Raise BenchError if a name isn't the metric's own, or a declared value is missing. `taken_names`
    are those of values of other metrics.
    """
    values = value_names(metric)
    # a function without metadata declares no names, so it may use any that are free
    for name in returned:
        if metric.bare and name in taken_names:
            raise BenchError(
                f"The metric {metric.name!r} returned {name!r}, another metric's name; return it "
                "under one of its own."
            )
        if not metric.bare and name not in _names(metric):
            raise BenchError(
                f"The metric {metric.name!r} returned {name!r}, which it doesn't declare; its "
                f"values are {', '.join(values)}. List all of them under "
                f"metric.{metric.name}.values, and curves under .curves."
            )
    if not metric.bare:
        for name in values:
            if name not in returned:
                raise BenchError(
                    f"The metric {metric.name!r} declares the value {name!r} and didn't return it."
                )
    for name, answer in returned.items():
        if isinstance(answer, Curve):
            measurement.curves[name] = _with_statuses(metric, answer.points, row_statuses, 2)
            axes = answer.axes(metric.spec.better)
            if axes is not None:
                measurement.axes[name] = axes
        elif name in metric.spec.curves:
            measurement.curves[name] = _with_statuses(metric, answer, row_statuses, 2)
        else:
            measurement.values[name] = _with_statuses(metric, answer, row_statuses, 1)


def _with_statuses(
    metric: Metric, values: object, row_statuses: np.ndarray, dimensions: int
) -> tuple[Tensor, Statuses]:
    """Return values (B,) or points (B, n) and their statuses, with NaN if the status isn't "ok".

    `values` come from `copied_to_cpu`. If they have another shape, raise BenchError.
    """
    is_valid = (
        isinstance(values, Tensor)
        and not values.is_complex()
        and values.ndim == dimensions
        and values.shape[:1] == row_statuses.shape
    )
    if not isinstance(values, Tensor) or not is_valid:
        raise BenchError(
            f"The metric {metric.name!r} returned {described(values)}; a metric returns one real "
            f"value per image, a tensor of shape ({len(row_statuses)},), or a dict of such "
            "tensors and of declared Curves."
        )
    points = values.reshape(len(values), -1)
    meets_needs = row_statuses == OK
    has_nan = points.isnan().any(1).numpy()
    has_infinity = points.isinf().any(1).numpy()
    status = np.where(meets_needs & has_nan, metric.spec.undefined, row_statuses)
    status = np.where(meets_needs & has_infinity, NOT_FINITE, status)
    missing = torch.from_numpy(status != OK)
    if dimensions == 2:
        missing = missing[:, None]
    return values.masked_fill(missing, torch.nan), tuple(status)


def copied_to_cpu(answers: Sequence[Returned]) -> list[dict[str, object]]:
    """Return the answers with float64 copies on the CPU of tensors and of curves' points. Others
    stay as they are.
    """
    tensors: list[Tensor] = []
    for returned in answers:
        for answer in returned.values():
            tensor = _tensor(answer)
            if tensor is not None:
                tensors.append(tensor)
    copies = iter(_copies_on_cpu(tensors))

    def with_copy(answer: object) -> object:
        if _tensor(answer) is None:
            return answer
        return replace(answer, points=next(copies)) if isinstance(answer, Curve) else next(copies)

    return [{name: with_copy(answer) for name, answer in returned.items()} for returned in answers]


def _tensor(answer: object) -> Tensor | None:
    """Return an answer's values, or its points if it is a curve, as a real tensor; None if it has
    none.
    """
    values = answer.points if isinstance(answer, Curve) else answer
    return values.detach() if isinstance(values, Tensor) and not values.is_complex() else None


def _copies_on_cpu(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return float64 copies on the CPU, in the same shapes; copies from a GPU are transferred all
    at once.
    """
    copies = [tensor.to(torch.float64) for tensor in tensors]
    gpu_indices = [index for index, tensor in enumerate(tensors) if tensor.device != CPU]
    if gpu_indices:
        gpu_copies = [copies[index] for index in gpu_indices]
        transferred = torch.cat([copy.reshape(-1) for copy in gpu_copies]).cpu()
        parts = transferred.split([copy.numel() for copy in gpu_copies])
        for index, part in zip(gpu_indices, parts, strict=True):
            copies[index] = part.reshape(tensors[index].shape)
    return copies


def reads_maps(metric: Metric) -> bool:
    """Return True if the metric's YAML file says that it reads only maps and annotations."""
    return metric.spec.reads == MAPS


def maps_only(explanation: Explanation) -> Explanation:
    """Return the explanation with only the fields that a metric with `reads: maps` may read."""
    return replace(explanation, trace=None, contributions=None, images=None, method=None)


def _maps_on_cpu(explanations: Sequence[Explanation]) -> list[Explanation | None]:
    """Copy maps and annotations from a GPU to the CPU, with one wait for all; None for maps that
    are on the CPU.
    """
    copies: list[Explanation | None] = []
    devices: set[torch.device] = set()
    for explanation in explanations:
        heatmap = explanation.heatmap
        raw_map = explanation.raw_map
        if heatmap is None or heatmap.device == CPU:
            copies.append(None)
            continue
        if heatmap.is_cuda:
            devices.add(heatmap.device)
        heatmap_copy = heatmap.to(CPU, non_blocking=True)
        raw_copy = None if raw_map is None else raw_map.to(CPU, non_blocking=True)
        copy = replace(
            maps_only(explanation), heatmap=heatmap_copy, raw_map=raw_copy, made=heatmap_copy
        )
        copies.append(copy)
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    return copies
