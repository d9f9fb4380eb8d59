"""A method's explanation of a batch, the notes about it, and the columns of its values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from axiom_bench.columns import CURVE_COLUMNS, RECORD_COLUMNS
from axiom_bench.cutting.numerics import SPACES, dead_channels
from axiom_bench.cutting.output import described
from axiom_bench.cutting.silent import one_position, silence
from axiom_bench.cutting.trace import CutModel, Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError
from axiom_bench.evaluation.measurement import Measured, Measurement
from axiom_bench.evaluation.plugins import Plugin
from axiom_bench.evaluation.specs import MethodSpec
from axiom_bench.explanation.explanation import Explanation, Map, is_map, weighted
from axiom_bench.notes import WARNINGS, MethodLeftOut, Notes, NotFiniteMaps, ZeroMaps

Method = Plugin[MethodSpec]
Columns = dict[str, Any]  # arrays by the name of a column; of curves, also their "axes"
# The check of the score's scale: on so many rows, by a power of two, which rounds nothing.
CHECKED_ROWS, FACTOR = 4, 4.0
TOLERANCE = 1e-3  # ablation drops in float32 are rounded to about 1e-4; another scale is off by a whole factor


def traced(cut_model: CutModel, batch: Batch) -> Trace:
    """The batch's trace; an error of the network itself gets a note, since its input's size is the usual cause."""
    try:
        return trace_of_batch(cut_model, batch)
    except RuntimeError as error:
        size = " x ".join(map(str, batch.images.shape[2:]))
        error.add_note(f"raised by the network on images of {size}; give all its size (pictures: by model.resize)")
        raise


def note_silence(trace: Trace, notes: Notes = WARNINGS) -> bool:
    """Return whether the layer's gradients are zero for every image; a note names a layer where they aren't.

    If the layer's maps have one position, another note says so.
    """
    if trace.activations.shape[2:].numel() == 1:
        notes.add(ZeroMaps(one_position(trace)))
    is_silent = not trace.has_gradients
    if is_silent:
        notes.add(ZeroMaps(silence(trace)))
    return is_silent


def trace_of_batch(cut_model: CutModel, batch: Batch) -> Trace:
    """The trace of a batch, with what the batch has beside its images."""
    extras = batch.interventions, batch.other_images
    trace = cut_model.trace(batch.images, batch.targets, *extras, None, batch.other_inputs)
    return replace(trace, image_ids=batch.image_ids)


def explained(
    trace: Trace,
    annotations: Batch | Mapping[str, Any],
    method: Method,
    normalise: str = "maximum",
    notes: Notes = WARNINGS,
) -> Explanation | None:
    """Return a method's explanation of a trace. If it doesn't apply to the model, add a note and return None."""
    answer = answer_of(method, trace, notes)
    return None if answer is None else Explanation.of(trace, answer, annotations, method, normalise)


def answer_of(method: Method, trace: Trace, notes: Notes = WARNINGS) -> Tensor | Map | None:
    """Return the method's weights or Map, detached.

    If the method doesn't apply to the model, add a note and return None. Raises BenchError for another shape.
    """
    try:
        answer = method(trace)
    except BenchError as error:
        notes.add(MethodLeftOut(f"The method {method.name!r} is left out: {error}"))
        return None
    if isinstance(answer, Map) and is_map(answer.raw, trace.dimensions) and len(answer.raw) == len(trace):
        return replace(answer, raw=answer.raw.detach())
    is_real = isinstance(answer, Tensor) and not answer.is_complex()
    if is_real and (answer.shape == trace.activations.shape[:2] or _broadcasts(answer.shape, trace.activations.shape)):
        return answer.detach()
    raise BenchError(
        f"The method {method.name!r} returned {described(answer.raw if isinstance(answer, Map) else answer)}; a method "
        f"returns real weights (B, K), or that broadcast to the activations {tuple(trace.activations.shape)}, or an "
        f"axiom_bench.Map of (B, {SPACES[trace.dimensions].lower()}), floating point and of at least one pixel."
    )


def note_non_finite(method: Method, trace: Trace, answer: Tensor | Map, notes: Notes = WARNINGS) -> None:
    """Add a note if maps of images with finite scores aren't finite, once for each method of a cut model."""
    values = answer.raw if isinstance(answer, Map) else answer
    wrong = ~values.expand(len(trace), *values.shape[1:]).isfinite()
    rows = wrong.flatten(1).any(1) & trace.logits.isfinite().all(1)
    if isinstance(answer, Map) and answer.missing is not None:
        rows &= ~answer.missing.to(rows.device)
    key = ("maps that aren't finite", method.name)
    if not rows.any() or trace.cut_model.holds(key):
        return
    trace.cut_model.once(key, lambda: True)
    row = int(rows.nonzero()[0])
    name = row if trace.image_ids is None else trace.image_ids[row]
    where = f"{int(wrong[row].sum())} of {wrong[row].numel()} pixels are NaN or infinite"
    if not isinstance(answer, Map):
        channels = wrong[row].flatten(1).any(1) if wrong.ndim > 2 else wrong[row]  # weights may be (B, K)
        dead = int((channels & dead_channels(trace.activations[row : row + 1])[0]).sum())
        where = f"the weights of {int(channels.sum())} of {len(channels)} channels are NaN or infinite, {dead} of them "
        where += "with maps of zeros alone; divide as axiom_bench.cutting.numerics.guarded_divide does"
    of_images = f"aren't finite for {int(rows.sum())} of {len(trace)} images"
    notes.add(NotFiniteMaps(f"The maps of {method.name!r} {of_images}: of image {name} {where}."))


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) == len(to) and all(size in (1, full) for size, full in zip(shape, to, strict=True))


def with_score_scale(methods: Iterable[Method], trace: Trace, notes: Notes = WARNINGS) -> list[Method]:
    """Return the methods with `on_score_scale` decided, once for a run; False if one doesn't apply to the model."""

    def decided(method: Method) -> Method:
        if method.spec.on_score_scale is not None:
            return method
        claim = answer_of(method, trace[:1], notes) is not None and on_score_scale(method, trace)
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
    contributions = weighted(answer, rows.activations)
    scaled_output, scaled_input = rows.scaled(output=FACTOR), rows.scaled(inputs=FACTOR)
    return (
        bool(contributions.any())
        and _equal(weighted(method(scaled_output), scaled_output.activations), FACTOR * contributions)
        and _equal(weighted(method(scaled_input), scaled_input.activations), contributions)
    )


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Whether two (B, K, H, W) are equal for every image, up to rounding relative to that image's maximum."""
    error = (actual - expected).abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * expected.abs().flatten(1).amax(1)).all())


def columns(
    image_ids: Sequence[str], targets: np.ndarray, predictions: np.ndarray, method: str, measurement: Measurement
) -> Iterator[Columns]:
    """The columns of a method's values, and those of its curves where it has any, B rows for each value or curve.

    image_ids, targets, predictions: of the B rows, the classes explained and predicted. The columns of curves come with
    "axes", {curve: {at, x, y, title, better}}, for those that can be drawn.
    """

    def shared(measured: Measured) -> Columns:
        count = len(measured)
        return {
            "image_id": np.tile(np.array(image_ids, dtype=object), count),
            "target_class": np.tile(targets, count),
            "predicted_class": np.tile(predictions, count),
            "method": np.full(len(image_ids) * count, method, dtype=object),
            "status": np.array([status for _, row in measured.values() for status in row], dtype=object),
        }

    def names(measured: Measured) -> np.ndarray:
        return np.repeat(np.array(list(measured), dtype=object), len(image_ids))

    values, curves = measurement.values, measurement.curves
    numbers = [value.numpy() for value, _ in values.values()]
    yield {**shared(values), "metric": names(values), "value": np.concatenate(numbers) if numbers else np.zeros(0)}
    if curves:
        points = [row for table, _ in curves.values() for row in table.numpy()]
        column = np.empty(len(points), dtype=object)  # of arrays of any lengths
        column[:] = points
        yield {**shared(curves), "curve": names(curves), "points": column, "axes": measurement.axes}


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
