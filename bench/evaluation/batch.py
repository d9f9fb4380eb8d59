"""The loop of the benchmark: every method explains a trace, every metric measures each explanation; and its columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from axiom_bench.columns import CURVE_COLUMNS, LAYER, RECORD_COLUMNS
from axiom_bench.cutting.silent import silence
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import Measured, Measurement, Metric, described, measure_all, not_applicable
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.purity import WATCHED_RATE, Witness, foreign, is_watched, tensors_of
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.evaluation.stopwatch import METHODS, METRICS, UNTIMED, Watch
from axiom_bench.explanation.explanation import Explanation, Map, is_map

Method = Plugin[MethodSpec]
Columns = dict[str, Any]  # arrays by the name of a column; of curves, also their "axes"
# The check of the score's scale: on so many rows, by a power of two, which rounds nothing.
CHECKED_ROWS, FACTOR = 4, 4.0
TOLERANCE = 1e-3  # ablation drops in float32 are rounded to about 1e-4; another scale is off by a whole factor


class MethodLeftOut(UserWarning):
    """A method doesn't apply to the model and has no values. A run collects these warnings by their category."""


class ZeroMaps(UserWarning):
    """At the layer nothing is to be seen. A run collects these warnings by their category."""


def warn_of_silence(trace: Trace) -> bool:
    """Whether the layer's gradients are zero for every image, with a ZeroMaps warning that names one where they
    aren't."""
    if is_silent := not trace.has_gradients:
        warnings.warn(silence(trace), ZeroMaps, stacklevel=2)
    return is_silent


def trace_of_batch(cut_model: CutModel, batch: Batch) -> Trace:
    """The trace of a batch, with what the batch has beside its images."""
    trace = cut_model.trace(batch.images, batch.targets, batch.interventions, batch.other_images)
    return replace(trace, image_ids=batch.image_ids)


def rows_of(
    trace: Trace,
    batch: Batch,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    normalise: str = "maximum",
    watch: Watch = UNTIMED,
    watched_rate: int = WATCHED_RATE,
) -> Iterator[Columns]:
    """Yields the columns of one method at a time, first those of the layer (method "-"); see `columns`.

    Requests of metrics are answered for all methods together. Users' own methods come last, and after the suite's own
    metrics theirs. normalise: of the heatmaps, see `heatmap`. watch: is told of the parts. watched_rate: see
    `purity.is_watched`. Raises BenchError where a method or a metric returns a wrong shape, or changes what others
    read.
    """
    of_layer = [metric for metric in metrics if metric.spec.of == "layer"]
    of_method = [metric for metric in metrics if metric.spec.of == "method"]
    rows, of_users = BatchRows.of(trace, batch), foreign([*methods, *metrics])
    annotations = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
    own = [method for method in methods if not method.is_foreign]
    witness = None
    if of_users and is_watched(batch.image_ids, watched_rate):
        trusted = [metric for metric in of_method if not metric.is_foreign]
        measured = partial(_measured, trace, annotations, own, trusted, (), normalise)
        witness = Witness(trace.images.device, lambda: [*tensors_of(trace), *_values(each for _, each in measured())])
    if of_layer:
        with watch.part(METRICS):
            measurements = measure_all(of_layer, [(Explanation(trace=trace), True)], watch=watch)
        yield from columns(rows, LAYER, measurements[0])
    for group in (own, foreign(methods)):
        for name, measurement in _measured(trace, annotations, group, of_method, of_layer, normalise, watch):
            yield from columns(rows, name, measurement or not_applicable(of_method, len(rows)))
    if witness is not None:
        witness.check(of_users)


def _measured(
    trace: Trace,
    annotations: Mapping[str, Any],
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    others: Sequence[Metric],
    normalise: str,
    watch: Watch = UNTIMED,
) -> Iterator[tuple[str, Measurement | None]]:
    """(name, measurement) of each method; None for one that doesn't apply to the model. others: see `measure_all`."""
    for group in _groups(trace, methods):
        with watch.part(METHODS):
            explanations = [explained(trace, annotations, method, normalise) for method in group]
            asked = [
                (explanation, explanation is not None and is_on_score_scale(method, trace))
                for method, explanation in zip(group, explanations, strict=True)
            ]
        with watch.part(METRICS):
            measurements = measure_all(metrics, asked, others, watch)
        for method, explanation, measurement in zip(group, explanations, measurements, strict=True):
            yield method.name, None if explanation is None else measurement


def _values(measurements: Iterable[Measurement | None]) -> list[Tensor]:
    return [values for each in measurements if each is not None for values, _ in (each.values | each.curves).values()]


def _groups(trace: Trace, methods: Sequence[Method]) -> Iterator[Sequence[Method]]:
    """Groups of methods whose contributions, each as large as the activations, fit into the cut's memory."""
    activations = trace.activations
    count = max(1, trace.cut_model.ablation_memory // (activations.numel() * activations.element_size()))
    return (methods[first : first + count] for first in range(0, len(methods), count))


def explained(
    trace: Trace, annotations: Batch | Mapping[str, Any], method: Method, normalise: str = "maximum"
) -> Explanation | None:
    """A method's explanation of a trace; None, with a MethodLeftOut warning, where it doesn't apply to the model."""
    answer = answer_of(method, trace)
    return None if answer is None else Explanation.of(trace, answer, annotations, method, normalise)


def answer_of(method: Method, trace: Trace) -> Tensor | Map | None:
    """The method's weights or Map, detached; None, with a MethodLeftOut warning, where it doesn't apply to the model.

    Raises BenchError for another shape.
    """
    try:
        answer = method(trace)
    except BenchError as error:
        warnings.warn(f"The method {method.name!r} is left out: {error}", MethodLeftOut, stacklevel=2)
        return None
    if isinstance(answer, Map) and is_map(answer.raw) and len(answer.raw) == len(trace):
        return replace(answer, raw=answer.raw.detach())
    is_real = isinstance(answer, Tensor) and not answer.is_complex()
    if is_real and _broadcasts(answer.shape, trace.activations.shape):
        return answer.detach()
    raise BenchError(
        f"The method {method.name!r} returned {described(answer.raw if isinstance(answer, Map) else answer)}; a method "
        f"returns real weights that broadcast to the activations {tuple(trace.activations.shape)}, or an "
        "axiom_bench.Map of (B, h, w), floating point and of at least one pixel."
    )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) == len(to) and all(size in (1, full) for size, full in zip(shape, to, strict=True))


def with_score_scale(methods: Iterable[Method], trace: Trace) -> list[Method]:
    """The methods with `on_score_scale` decided, once for a run; False for one that doesn't apply to the model."""

    def decided(method: Method) -> Method:
        if method.spec.on_score_scale is not None:
            return method
        claim = answer_of(method, trace[:1]) is not None and on_score_scale(method, trace)
        return replace(method, spec=replace(method.spec, on_score_scale=claim))

    return [decided(method) for method in methods]


def is_on_score_scale(method: Method, trace: Trace) -> bool:
    """Whether the method is on the score's scale: from its YAML file, or else from a check on this trace."""
    claim = method.spec.on_score_scale
    return on_score_scale(method, trace) if claim is None else claim


def on_score_scale(method: Callable[[Trace], Any], trace: Trace) -> bool:
    """Whether contributions grow with the head's output and ignore the unit of its input.

    They must be c times as large when the head's output is c times as large, and unchanged when the activations are
    c times as large and the head's input is divided by c. Measured on the first rows of `trace`. A `Map` has no
    contributions, and all-zero or non-finite ones show nothing: False.
    """
    rows = trace[:CHECKED_ROWS]
    answer = method(rows)
    if isinstance(answer, Map):
        return False
    contributions = answer * rows.activations
    scaled_output, scaled_input = rows.scaled(output=FACTOR), rows.scaled(inputs=FACTOR)
    return (
        bool(contributions.any())
        and _equal(method(scaled_output) * scaled_output.activations, FACTOR * contributions)
        and _equal(method(scaled_input) * scaled_input.activations, contributions)
    )


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Whether two (B, K, H, W) are equal for every image, up to rounding relative to that image's maximum."""
    error = (actual - expected).abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * expected.abs().flatten(1).amax(1)).all())


@dataclass(frozen=True)
class BatchRows:
    """What the columns have of a batch, on the CPU: the image, the explained and the predicted class of each row."""

    image_ids: tuple[str, ...]
    targets: np.ndarray
    predictions: np.ndarray

    @staticmethod
    def of(trace: Trace, batch: Batch) -> BatchRows:
        """Those of a trace of the batch."""
        explained, predicted = trace.classes_on_cpu
        return BatchRows(batch.image_ids, explained.numpy(), predicted.numpy())

    def __len__(self) -> int:
        return len(self.image_ids)


def columns(rows: BatchRows, method: str, measurement: Measurement) -> Iterator[Columns]:
    """The columns of a method's values, and those of its curves where it has any, B rows for each value or curve.

    The columns of curves come with "axes", {curve: {at, x, y, title, better}}, for those that can be drawn.
    """
    values, curves = measurement.values, measurement.curves
    yield {
        **_shared(rows, method, values),
        "predicted_class": np.tile(rows.predictions, len(values)),
        "metric": _names(values, len(rows)),
        "value": np.concatenate([value.numpy() for value, _ in values.values()]) if values else np.zeros(0),
    }
    if curves:
        points = [row for table, _ in curves.values() for row in table.numpy()]
        column = np.empty(len(points), dtype=object)  # of arrays of any lengths
        column[:] = points
        names = _names(curves, len(rows))
        yield {**_shared(rows, method, curves), "curve": names, "points": column, "axes": measurement.axes}


def _names(measured: Measured, rows: int) -> np.ndarray:
    return np.repeat(np.array(list(measured), dtype=object), rows)


def _shared(rows: BatchRows, method: str, measured: Measured) -> Columns:
    """The columns that values and curves share."""
    size, count = len(rows), len(measured)
    return {
        "image_id": np.tile(np.array(rows.image_ids, dtype=object), count),
        "target_class": np.tile(rows.targets, count),
        "method": np.full(size * count, method, dtype=object),
        "status": np.array([status for _, row in measured.values() for status in row], dtype=object),
    }


def holds_values(part: Columns) -> bool:
    """Whether these are columns of values; else they are those of curves."""
    return "value" in part


def frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns of values after each other in one table; without any, the empty table of the records' columns."""
    listed = [part for part in parts if len(part["value"])]
    return _table(listed, listed[0] if listed else RECORD_COLUMNS)


def curve_frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns of curves after each other in one table, which may be empty."""
    return _table(list(parts), CURVE_COLUMNS)


def _table(parts: Sequence[Columns], names: Iterable[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=list(names))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in names})
