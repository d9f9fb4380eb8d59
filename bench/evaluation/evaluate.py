"""From a trace to rows: every method explains it, every metric measures each explanation.

`bench.evaluate` and `bench.explain` are this loop for a notebook; a run is the same loop with records on disk.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from axiom_bench.columns import CURVE_COLUMNS, LAYER, NOT_APPLICABLE, NOT_FINITE, OK, RECORD_COLUMNS
from axiom_bench.cutting.cut_model import cut
from axiom_bench.cutting.output import Output
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError, measuring
from axiom_bench.evaluation import plugins, queries
from axiom_bench.evaluation.left_out import MethodLeftOut
from axiom_bench.evaluation.plugins import Plugin, value_names
from axiom_bench.evaluation.preconditions import statuses
from axiom_bench.evaluation.score_scale import on_score_scale
from axiom_bench.evaluation.whole_set import aggregating, whole_set
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.explanation.heatmap import Map, heatmap

Columns = dict[str, np.ndarray]
Measured = dict[str, tuple[Tensor, tuple[str, ...]]]


def evaluate(
    model: nn.Module,
    layer: str,
    batches: Iterable[Batch | tuple[Tensor, Tensor | None]],
    methods: Sequence[str | Callable],
    metrics: Sequence[str | Callable],
    reshape: AnyReshape | None = None,
    output: str | Output = "logits",
) -> pd.DataFrame:
    """Measure methods on a model: one row per image x method x metric, in the columns of the records; at the end the
    values of the whole data set, with image id "*", of the metrics that have such.

    layer: dotted module name. batches: (images (B, 3, H', W'), targets (B,) or None for the predicted class), or
    `axiom_bench.Batch`es with image ids, boxes and masks. methods, metrics: names or callables. reshape: "tokens" for a
    transformer; output: what is explained; see CutModel. status says why a value is NaN; a method that doesn't apply to
    the model has "not_applicable".
    Raises BenchError for an unknown name or layer.
    """
    known = [plugins.of("method", method) for method in methods]
    measures = [plugins.of("metric", metric) for metric in metrics]
    whole = cut(model, layer, reshape=reshape, output=output)
    parts: list[Columns] = []
    for batch in _named(batches):
        trace = whole.trace(batch.images, batch.targets)
        known = with_score_scale(known, trace)
        parts += rows_of(trace, batch, known, measures)
    rows = [*filter(_holds_values, parts), *_of_whole_set(measures, parts)]
    facts = {"experiment": "-", "model": whole.output.name_of(type(model).__name__), "layer": layer, "data": "-"}
    return frame(rows).assign(**facts)[list(RECORD_COLUMNS)]


def explain(
    model: nn.Module,
    layer: str,
    images: Tensor,
    methods: Sequence[str | Callable],
    targets: Tensor | None = None,
    size: tuple[int, int] | None = None,
    reshape: AnyReshape | None = None,
    output: str | Output = "logits",
) -> dict[str, Tensor]:
    """Heatmaps of several methods from one pass: {name: (B, H', W') in [0, 1]}, at the images' size or at `size`.

    targets: (B,), None for the predicted class. reshape and output: see CutModel. A method that doesn't apply to the
    model is left out, with a warning.
    """
    trace = cut(model, layer, reshape=reshape, output=output).trace(images, targets)
    answers = ((plugin.name, _answer(plugin, trace)) for plugin in (plugins.of("method", one) for one in methods))
    shown = size or (images.shape[-2], images.shape[-1])
    maps = {name: Explanation.of(trace, answer).raw_map for name, answer in answers if answer is not None}
    return {name: heatmap(given(raw_map, "raw_map"), shown) for name, raw_map in maps.items()}


def rows_of(
    trace: Trace, batch: Batch, methods: Sequence[Plugin], metrics: Sequence[Plugin], normalise: str = "maximum"
) -> Iterator[Columns]:
    """The loop of the benchmark. Yields the columns of one method at a time, first those of the layer (method "-").

    What metrics ask the model is asked for all methods together, before the first is measured.
    Columns: image_id target_class predicted_class method metric value status; B rows per metric value. Where metrics
    have curves, the columns of the method's curves follow: see `whole_set`; B rows per curve.
    normalise: of the heatmaps, see axiom_bench.explanation.heatmap.
    Raises BenchError where a method or a metric answers in a wrong shape.
    """
    of_layer = [metric for metric in metrics if metric.spec.of == "layer"]
    of_method = [metric for metric in metrics if metric.spec.of != "layer"]
    if of_layer:
        yield from _columns(trace, batch, LAYER, measured(of_layer, Explanation(trace=trace), True))
    for some in _at_once(trace, methods):
        explanations = [explained(trace, batch, method, normalise) for method in some]
        _ask(trace, of_method, zip(some, explanations, strict=True))
        for method, explanation in zip(some, explanations, strict=True):
            yield from _columns(trace, batch, method.name, method_values(trace, method, explanation, of_method))


def explained(trace: Trace, batch: Batch, method: Plugin, normalise: str = "maximum") -> Explanation | None:
    """What a method says of a trace; None, with a warning, where it can't explain this model."""
    answer = _answer(method, trace)
    return None if answer is None else Explanation.of(trace, answer, batch, method, normalise)


def method_values(trace: Trace, method: Plugin, explanation: Explanation | None, metrics: Sequence[Plugin]) -> Measured:
    """All values of one method on one trace; status "not_applicable" where there is no explanation."""
    if explanation is None:
        nothing, why = torch.full((len(trace),), torch.nan, dtype=torch.float64), (NOT_APPLICABLE,) * len(trace)
        return {name: (nothing, why) for metric in metrics for name in value_names(metric)}
    return measured(metrics, explanation, is_on_score_scale(method, trace))


def _at_once(trace: Trace, methods: Sequence[Plugin]) -> Iterator[Sequence[Plugin]]:
    """Methods whose contributions, each as large as the activations, are held together, within the cut's memory."""
    activations = trace.activations
    count = max(1, trace.cut_model.ablation_memory // (activations.numel() * activations.element_size()))
    return (methods[first : first + count] for first in range(0, len(methods), count))


def _ask(trace: Trace, metrics: Sequence[Plugin], explanations: Iterable[tuple[Plugin, Explanation | None]]) -> None:
    """Asks the model what the metrics will want to know of several methods' explanations; see `queries`."""
    known = [(one, is_on_score_scale(method, trace)) for method, one in explanations if one is not None]
    queries.ask(
        (metric.name, query)
        for metric in metrics
        if metric.spec.queries
        for explanation, on_score_scale in known
        if (statuses(plugins.needs_of(metric), explanation, on_score_scale) == OK).any()
        for query in queries_of(metric, explanation)
    )


def queries_of(metric: Plugin, explanation: Explanation) -> list[queries.Query]:
    """What a metric asks the model about an explanation: none, where its YAML names no `queries`.

    Raises BenchError, with the metric's name, where they can't be told.
    """
    if not metric.spec.queries:
        return []
    with measuring(metric.name):
        asked = plugins.queries_function(metric)(explanation)
    return [asked] if isinstance(asked, queries.Query) else list(asked)


def measured(metrics: Iterable[Plugin], explanation: Explanation, on_score_scale: bool) -> Measured:
    """The values of several metrics, in their order."""
    values: Measured = {}
    for metric in metrics:
        values |= measure(metric, explanation, on_score_scale)
    return values


def measure(metric: Plugin, explanation: Explanation, on_score_scale: bool) -> Measured:
    """One metric with its preconditions: {value name: (float64 CPU tensor (B,), B statuses)}, NaN where not "ok".
    A curve that the YAML lists under `curves` is (B, n).

    The metric isn't called where no row meets its needs; else it sees all rows, and what it says of the others is
    dropped. NaN where its needs are met has the status that the YAML names as `undefined`, "not_finite" where it names
    none; so has infinity. Raises BenchError for another shape, and where the metric does, with its name before it.
    """
    met = statuses(plugins.needs_of(metric), explanation, on_score_scale)
    if not (met == OK).any():
        nothing = torch.full((len(met),), torch.nan, dtype=torch.float64)
        return {name: (nothing, tuple(met)) for name in value_names(metric)}
    with measuring(metric.name):
        answer = metric(explanation)
    answers = answer if isinstance(answer, Mapping) else {metric.name: answer}
    curves = metric.spec.curves
    return {name: _judged(metric, values, met, name in curves) for name, values in answers.items()}


def _judged(metric: Plugin, values: Any, met: np.ndarray, curve: bool) -> tuple[Tensor, tuple[str, ...]]:
    undefined = metric.spec.undefined
    if not isinstance(values, Tensor) or values.ndim != 1 + curve or values.shape[:1] != met.shape:
        raise BenchError(
            f"The metric {metric.name!r} returned {_described(values)}; a metric returns one value per image, "
            f"a tensor of shape ({len(met)},), or a dict of such tensors."
        )
    exact = values.detach().to("cpu", torch.float64)
    points = exact.reshape(len(exact), -1)
    status = np.where((met == OK) & points.isnan().any(1).numpy(), undefined, met)
    status = np.where((met == OK) & points.isinf().any(1).numpy(), NOT_FINITE, status)
    missing = torch.from_numpy(status != OK)
    return exact.masked_fill(missing[:, None] if curve else missing, torch.nan), tuple(status)


def _described(answer: Any) -> str:
    return str(tuple(answer.shape)) if isinstance(answer, Tensor) else f"a {type(answer).__name__}"


def is_on_score_scale(method: Plugin, trace: Trace) -> bool:
    """What the method's YAML claims; for a method that claims nothing, what a check on this trace finds."""
    claimed = method.spec.on_score_scale
    return on_score_scale(method, trace) if claimed is None else bool(claimed)


def with_score_scale(methods: Iterable[Plugin], trace: Trace) -> list[Plugin]:
    """The methods with `on_score_scale` decided, once for a whole run. One that doesn't apply to the model: False."""

    def decided(method: Plugin) -> Plugin:
        if method.spec.on_score_scale is not None:
            return method
        claim = _answer(method, trace[:1]) is not None and is_on_score_scale(method, trace)
        return replace(method, spec=replace(method.spec, on_score_scale=claim))

    return [decided(method) for method in methods]


def _answer(method: Plugin, trace: Trace) -> Tensor | Map | None:
    """The method's weights or Map, detached; None, with a warning, where it says that it doesn't fit this model."""
    try:
        answer = method(trace)
    except BenchError as error:
        warnings.warn(f"The method {method.name!r} is left out: {error}", MethodLeftOut, stacklevel=2)
        return None
    if isinstance(answer, Map) and answer.raw.ndim == 3 and len(answer.raw) == len(trace):
        return Map(answer.raw.detach())
    if isinstance(answer, Tensor) and _broadcasts(answer.shape, trace.activations.shape):
        return answer.detach()
    said = _described(answer.raw if isinstance(answer, Map) else answer)
    raise BenchError(
        f"The method {method.name!r} returned {said}; a method returns weights that broadcast to the activations "
        f"{tuple(trace.activations.shape)}, or a axiom_bench.Map of (B, h, w)."
    )


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) == len(to) and all(mine in (1, theirs) for mine, theirs in zip(shape, to, strict=True))


def _columns(trace: Trace, batch: Batch, method: str, measured: Measured) -> Iterator[Columns]:
    """The columns of a method's values, and those of its curves where it has any."""
    curves = {name: answer for name, answer in measured.items() if answer[0].ndim == 2}
    yield columns(trace, batch, method, {name: answer for name, answer in measured.items() if name not in curves})
    if curves:
        yield {
            "image_id": np.tile(np.array(batch.image_ids, dtype=object), len(curves)),
            "target_class": np.tile(trace.targets.cpu().numpy(), len(curves)),
            "method": np.full(len(trace) * len(curves), method, dtype=object),
            "curve": np.repeat(np.array(list(curves), dtype=object), len(trace)),
            "points": _objects(points for values, _ in curves.values() for points in values.numpy()),
            "status": np.array([status for _, row in curves.values() for status in row], dtype=object),
        }


def _objects(arrays: Iterable[np.ndarray]) -> np.ndarray:
    """Arrays, of one length or not, as the entries of a column."""
    listed = list(arrays)
    column = np.empty(len(listed), dtype=object)
    column[:] = listed
    return column


def _holds_values(part: Columns) -> bool:
    return "value" in part


def _of_whole_set(metrics: Sequence[Plugin], parts: Iterable[Columns]) -> Iterator[Columns]:
    """The columns of the values of the whole data set, method after method, from the curves among the parts."""
    chosen = aggregating(metrics)
    by_method: dict[str, list[Columns]] = {}
    for part in parts:
        if chosen and len(part["method"]):
            by_method.setdefault(part["method"][0], []).extend([] if _holds_values(part) else [part])
    for method, curves in by_method.items():
        of = [metric for metric in chosen if (metric.spec.of == "layer") == (method == LAYER)]
        yield whole_set(of, method, curve_frame(curves))


def columns(trace: Trace, batch: Batch, method: str, values: Measured) -> Columns:
    """The records' columns of one method's values: B rows per value, value by value."""
    size, count = len(trace), len(values)
    return {
        "image_id": np.tile(np.array(batch.image_ids, dtype=object), count),
        "target_class": np.tile(trace.targets.cpu().numpy(), count),
        "predicted_class": np.tile(trace.logits.argmax(1).cpu().numpy(), count),
        "method": np.full(size * count, method, dtype=object),
        "metric": np.repeat(np.array(list(values), dtype=object), size),
        "value": np.concatenate([value.numpy() for value, _ in values.values()]) if values else np.zeros(0),
        "status": np.array([status for _, row in values.values() for status in row], dtype=object),
    }


def frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns after each other in one table; without any, the empty table of the records' columns."""
    parts = [part for part in parts if len(part["value"])]
    if not parts:
        return pd.DataFrame(columns=list(RECORD_COLUMNS))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def curve_frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Columns of curves after each other in one table, which may be empty."""
    listed = list(parts)
    if not listed:
        return pd.DataFrame(columns=list(CURVE_COLUMNS))
    return pd.DataFrame({name: np.concatenate([part[name] for part in listed]) for name in CURVE_COLUMNS})


def _named(batches: Iterable[Batch | tuple[Tensor, Tensor | None]]) -> Iterator[Batch]:
    """Batches with image ids; bare (images, targets) are numbered in their order."""
    first = 0
    for entry in batches:
        if isinstance(entry, Batch):
            batch = entry
        else:
            images, targets = entry
            batch = Batch(images, tuple(str(first + row) for row in range(len(images))), targets)
        first += len(batch)
        yield batch
