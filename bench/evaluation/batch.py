"""The loop of the benchmark: every method explains a trace, every metric measures each explanation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from axiom_bench.columns import LAYER
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.cpu_threads import CpuThreads
from axiom_bench.evaluation.measurement import Measurement, Metric, begin, described, measure_all, not_applicable
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.evaluation.stopwatch import METHODS, METRICS, UNTIMED, Watch
from axiom_bench.evaluation.tables import BatchRows, Columns, columns
from axiom_bench.evaluation.unchanged import explained_by
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.explanation.heatmap import Map

Method = Plugin[MethodSpec]
Later = Callable[[], Iterator[Columns]]
# The check of the score's scale: on so many rows, by a power of two, which rounds nothing.
CHECKED_ROWS, FACTOR = 4, 4.0
TOLERANCE = 1e-3  # ablation drops in float32 are rounded to about 1e-4; another scale is off by a whole factor


class MethodLeftOut(UserWarning):
    """A method doesn't apply to the model and has no values. A run collects these warnings by their category."""


def trace_of_batch(cut_model: CutModel, batch: Batch) -> Trace:
    """The trace of a batch, with what the batch has beside its images."""
    return cut_model.trace(batch.images, batch.targets, batch.interventions, batch.other_images)


def rows_of(
    trace: Trace,
    batch: Batch,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    normalise: str = "maximum",
    watch: Watch = UNTIMED,
) -> Iterator[Columns]:
    """Yields the columns of one method at a time, first those of the layer (method "-"); see `tables.columns`.

    Requests of metrics are answered for all methods together. normalise: of the heatmaps, see
    axiom_bench.explanation.heatmap. watch: is told of the parts.
    Raises BenchError where a method or a metric returns a wrong shape, or writes to what others read.
    """
    for later in begun_rows(trace, batch, methods, metrics, normalise, watch):
        yield from later()


def begun_rows(
    trace: Trace,
    batch: Batch,
    methods: Sequence[Method],
    metrics: Sequence[Metric],
    normalise: str = "maximum",
    watch: Watch = UNTIMED,
    threads: CpuThreads | None = None,
) -> Iterator[Later]:
    """Functions of the parts of `rows_of`, in its order. threads: see `measurement.begin`; each function waits for what
    they measure, and holds nothing of a GPU."""
    rows = BatchRows.of(trace, batch)
    of_layer = [metric for metric in metrics if metric.spec.of == "layer"]
    of_method = [metric for metric in metrics if metric.spec.of == "method"]
    if of_layer:
        with watch.part(METRICS):
            (measurement,) = measure_all(of_layer, [(Explanation(trace=trace), True)], watch=watch)
        yield partial(columns, rows, LAYER, measurement)
    annotations = batch.annotations_of(trace.classes_on_cpu[0], trace.logits.shape[1])
    for group in _groups(trace, methods):
        with watch.part(METHODS):
            explanations = [explained(trace, annotations, method, normalise) for method in group]
            scales = [
                explanation is not None and is_on_score_scale(method, trace)
                for method, explanation in zip(group, explanations, strict=True)
            ]
        with watch.part(METRICS):
            measured = begin(of_method, list(zip(explanations, scales, strict=True)), of_layer, watch, threads)
        names = [
            (method.name, explanation is not None) for method, explanation in zip(group, explanations, strict=True)
        ]
        yield partial(_columns, rows, names, of_method, measured, watch)


def _columns(
    rows: BatchRows,
    methods: Sequence[tuple[str, bool]],
    metrics: Sequence[Metric],
    measured: Callable[[], list[Measurement]],
    watch: Watch,
) -> Iterator[Columns]:
    """methods: their names, and whether they apply to the model."""
    with watch.part(METRICS):
        measurements = measured()
    for (name, applies), measurement in zip(methods, measurements, strict=True):
        yield from columns(rows, name, measurement if applies else not_applicable(metrics, len(rows)))


def explained(
    trace: Trace, annotations: Batch | Mapping[str, Any], method: Method, normalise: str = "maximum"
) -> Explanation | None:
    """A method's explanation of a trace; None, with a MethodLeftOut warning, where it doesn't apply to the model."""
    answer = answer_of(method, trace)
    return None if answer is None else Explanation.of(trace, answer, annotations, method, normalise)


def answer_of(method: Method, trace: Trace) -> Tensor | Map | None:
    """The method's weights or Map, detached; None, with a MethodLeftOut warning, where it doesn't apply to the model.

    Raises BenchError for another shape, and where the method writes to the trace.
    """
    with explained_by(method, trace):
        try:
            answer = method(trace)
        except BenchError as error:
            warnings.warn(f"The method {method.name!r} is left out: {error}", MethodLeftOut, stacklevel=2)
            return None
    if isinstance(answer, Map) and answer.raw.ndim == 3 and len(answer.raw) == len(trace):
        return Map(answer.raw.detach())
    if isinstance(answer, Tensor) and _broadcasts(answer.shape, trace.activations.shape):
        return answer.detach()
    raise BenchError(
        f"The method {method.name!r} returned {described(answer.raw if isinstance(answer, Map) else answer)}; a method "
        f"returns weights that broadcast to the activations {tuple(trace.activations.shape)}, or an axiom_bench.Map of "
        "(B, h, w)."
    )


def is_on_score_scale(method: Method, trace: Trace) -> bool:
    """Whether the method is on the score's scale: from its YAML file, or else from a check on this trace."""
    claim = method.spec.on_score_scale
    return on_score_scale(method, trace) if claim is None else claim


def with_score_scale(methods: Iterable[Method], trace: Trace) -> list[Method]:
    """The methods with `on_score_scale` decided, once for a run; False for one that doesn't apply to the model."""

    def decided(method: Method) -> Method:
        if method.spec.on_score_scale is not None:
            return method
        claim = answer_of(method, trace[:1]) is not None and is_on_score_scale(method, trace)
        return replace(method, spec=replace(method.spec, on_score_scale=claim))

    return [decided(method) for method in methods]


def _groups(trace: Trace, methods: Sequence[Method]) -> Iterator[Sequence[Method]]:
    """Groups of methods whose contributions, each as large as the activations, fit into the cut's memory."""
    activations = trace.activations
    count = max(1, trace.cut_model.ablation_memory // (activations.numel() * activations.element_size()))
    return (methods[first : first + count] for first in range(0, len(methods), count))


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) == len(to) and all(size in (1, full) for size, full in zip(shape, to, strict=True))


def on_score_scale(method: Callable[[Trace], Tensor | Map], trace: Trace) -> bool:
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
    of_scaled_output = _contributions(method, rows.scaled(output=FACTOR))
    of_scaled_input = _contributions(method, rows.scaled(inputs=FACTOR))
    return (
        bool(contributions.any())
        and _equal(of_scaled_output, FACTOR * contributions)
        and _equal(of_scaled_input, contributions)
    )


def _contributions(method: Callable[[Trace], Tensor | Map], trace: Trace) -> Tensor:
    weights = method(trace)
    assert isinstance(weights, Tensor)  # as in the first call
    return weights * trace.activations


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Whether two (B, K, H, W) are equal for every image, up to rounding relative to that image's maximum."""
    error = (actual - expected).abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * expected.abs().flatten(1).amax(1)).all())
