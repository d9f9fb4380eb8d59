"""`axiom_bench.evaluate` and `axiom_bench.explain`: the loop for a notebook. A run is the same loop with records."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd
from torch import Tensor, nn

from axiom_bench.columns import LAYER, RECORD_COLUMNS
from axiom_bench.cutting.images import check_tensor
from axiom_bench.cutting.output import AnyOutput
from axiom_bench.cutting.passes import by_halves, without_autocast
from axiom_bench.cutting.tokens import AnyReshape
from axiom_bench.cutting.trace import cut
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError, type_name
from axiom_bench.evaluation import plugins
from axiom_bench.evaluation.batch import (
    Columns,
    ZeroMaps,
    answer_of,
    curve_frame,
    frame,
    holds_values,
    rows_of,
    trace_of_batch,
    warn_of_non_finite,
    warn_of_silence,
)
from axiom_bench.evaluation.measurement import Metric, check_names
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.proof import proved
from axiom_bench.evaluation.purity import Witness, tensors_of
from axiom_bench.evaluation.whole_set import aggregating, whole_set
from axiom_bench.explanation.explanation import Explanation, given, heatmap
from axiom_bench.explanation.overlay import Heatmaps


@without_autocast()
def evaluate(
    model: nn.Module,
    layer: str,
    batches: Iterable[Batch | tuple[Tensor, Tensor | None]],
    methods: Sequence[str | Callable],
    metrics: Sequence[str | Callable],
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
) -> pd.DataFrame:
    """Measure methods on a model: one row per image x method x metric, in the columns of the records. At the end come
    rows with image id "*" for metrics with values of the whole data set.

    Args:
        model: any nn.Module; it isn't changed.
        layer: dotted name of the target layer.
        batches: (images (B, 3, H', W'), targets (B,) or None for the predicted class), or `axiom_bench.Batch`es with
            image ids, boxes and masks.
        methods: names or callables.
        metrics: names or callables.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: what is explained; see `CutModel`.

    Returns:
        The values, with their unit and a status that says why a value is NaN; a method that doesn't apply to the model
            has "not_applicable".

    Raises:
        BenchError: for an unknown name or layer, and for batches, methods or metrics of another form.
    """
    method_plugins, metric_plugins = chosen("method", methods), chosen("metric", metrics)
    check_names(metric_plugins)
    cut_model = cut(model, layer, reshape=reshape, output=output)
    parts: list[Columns] = []
    is_proved = False
    for batch in _as_batches(batches):

        def columns(part: Batch, _: int) -> list[Columns]:
            nonlocal method_plugins, metric_plugins, is_proved
            trace = trace_of_batch(cut_model, part)
            if not is_proved:
                warn_of_silence(trace)
                method_plugins, metric_plugins = proved(method_plugins, metric_plugins, trace, part)
                is_proved = True
            return list(rows_of(trace, part, method_plugins, metric_plugins))

        for of_part in by_halves(batch, len(batch), cut_model.limits, columns):
            parts += of_part
    rows = [*filter(holds_values, parts), *_of_whole_set(metric_plugins, parts)]
    facts = {"experiment": "-", "model": cut_model.output.name_of(type(model).__name__), "layer": layer, "data": "-"}
    return frame(rows).assign(**facts)[list(RECORD_COLUMNS)]


@without_autocast()
def explain(
    model: nn.Module,
    layer: str,
    images: Tensor,
    methods: Sequence[str | Callable],
    targets: Tensor | None = None,
    size: tuple[int, int] | None = None,
    reshape: AnyReshape | None = None,
    output: AnyOutput | None = None,
) -> Heatmaps:
    """Heatmaps of several methods from one pass: {name: (B, H', W') in [0, 1]}, at the images' size or at `size`.

    A method that doesn't apply to the model is left out, with a MethodLeftOut warning; a layer where all gradients are
    zero gets a ZeroMaps warning, which names another.

    Args:
        model: any nn.Module; it isn't changed.
        layer: dotted name of the target layer.
        images: (B, 3, H', W'), or one, (3, H', W'), whose heatmaps are (1, H', W').
        methods: names or callables.
        targets: (B,), None for the predicted class.
        size: (H', W') of the heatmaps in pixels.
        reshape: "tokens" for a transformer; see `CutModel`.
        output: what is explained; see `CutModel`.

    Returns:
        A dict, which a notebook shows as pictures; its keys are names as they were given.

    Raises:
        BenchError: as `evaluate` does.
    """
    plugins_of_methods = chosen("method", methods)
    images = images[None] if isinstance(images, Tensor) and images.ndim == 3 else images
    trace = cut(model, layer, reshape=reshape, output=output).trace(images, targets)
    warn_of_silence(trace)
    if wrong := (~trace.logits.isfinite().all(1)).nonzero()[:, 0].tolist():
        sentence = f"The scores of the images {wrong} aren't finite, and their maps are NaN; check these images."
        warnings.warn(sentence, ZeroMaps, stacklevel=3)
    raw_maps: dict[str, Tensor | None] = dict.fromkeys(method.name for method in plugins_of_methods)
    for method in sorted(plugins_of_methods, key=lambda method: method.is_foreign):
        witness = Witness(trace.images.device, partial(tensors_of, trace)) if method.is_foreign else None
        if (answer := answer_of(method, trace)) is not None:
            warn_of_non_finite(method, trace, answer)
            raw_maps[method.name] = Explanation.of(trace, answer).raw_map
        if witness is not None:
            witness.check([method])
    map_size = size or (trace.images.shape[-2], trace.images.shape[-1])
    names = {
        each.name: entry for entry, each in zip(methods, plugins_of_methods, strict=True) if isinstance(entry, str)
    }
    maps = {
        names.get(name, name): heatmap(given(raw_map, "raw_map"), map_size)
        for name, raw_map in raw_maps.items()
        if raw_map is not None
    }
    probabilities = trace.logits.detach().softmax(1) if trace.has_probability else None
    return Heatmaps(maps, trace.images, trace.targets, probabilities)


def chosen(kind: str, entries: Sequence[str | Callable]) -> list[Plugin]:
    """The plug-ins of a list of names or callables. kind: "method" or "metric".

    Raises BenchError for anything but a list, and for two entries of one name.
    """
    if isinstance(entries, str) or not isinstance(entries, Iterable):
        hint = f"{kind}s=[{entries!r}]" if isinstance(entries, str) else f"{kind}s=[...]"
        given = repr(entries) if isinstance(entries, str) else type_name(entries)
        raise BenchError(f"{kind}s is a list of names or callables, not {given}; pass {hint}.")
    listed = [plugins.of(kind, entry) for entry in entries]
    for index, entry in enumerate(listed):
        if entry.name in [other.name for other in listed[:index]]:
            raise BenchError(f"There are two {kind}s named {entry.name!r}; list each of them once.")
    return listed


def _as_batches(batches: Iterable[Any]) -> Iterator[Batch]:
    """Batches with image ids; bare (images, targets) are numbered in their order. Raises BenchError for other forms."""
    if isinstance(batches, Batch | Tensor | dict | str) or not isinstance(batches, Iterable):
        raise BenchError(
            f"batches is an iterable of (images, targets) or of axiom_bench.Batch, not a {type(batches).__name__}; "
            "pass a list, such as [(images, targets)]."
        )
    first = 0
    for entry in batches:
        batch = entry if isinstance(entry, Batch) else _as_batch(entry, first)
        first += len(batch)
        yield batch


def _as_batch(entry: Any, first: int) -> Batch:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise BenchError(
            f"A batch is (images, targets) or an axiom_bench.Batch, not a {type(entry).__name__}; pass images "
            "(B, 3, H, W) with targets (B,), or with None for the predicted class."
        )
    images, targets = entry
    check_tensor(images)
    return Batch(images, tuple(str(first + row) for row in range(len(images))), targets)


def _of_whole_set(metrics: Sequence[Metric], parts: Iterable[Columns]) -> Iterator[Columns]:
    """The columns of the values of the whole data set, method after method, from the curves among the parts."""
    with_aggregate = aggregating(metrics)
    by_method: dict[str, list[Columns]] = {}
    for part in parts:
        if with_aggregate and len(part["method"]):
            by_method.setdefault(part["method"][0], []).extend([] if holds_values(part) else [part])
    for method, curves in by_method.items():
        of_method = [metric for metric in with_aggregate if (metric.spec.of == "layer") == (method == LAYER)]
        yield whole_set(of_method, method, curve_frame(curves))
