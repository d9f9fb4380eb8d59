"""A method's explanation of a batch, the notes about it, and the columns of its values.

The loop of a run, `axiom_bench.evaluate` and `axiom_bench.explain` share these steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from axiom_bench.columns import CURVE_COLUMNS, RECORD_COLUMNS
from axiom_bench.cutting.cut_model import CutModel
from axiom_bench.cutting.numerics import SPACES, dead_channels
from axiom_bench.cutting.output import described
from axiom_bench.cutting.silent import single_position_note, zero_gradients_note
from axiom_bench.cutting.trace import Trace
from axiom_bench.data.batch import Batch
from axiom_bench.errors import BenchError, InvalidParameter, plural
from axiom_bench.evaluation.cam_map import CamMap
from axiom_bench.evaluation.measurement import Measured, Measurement
from axiom_bench.evaluation.plugins import Method
from axiom_bench.explanation.explanation import Explanation, Map, is_map, weighted
from axiom_bench.notes import WARNINGS, MethodLeftOut, Notes, NotFiniteMaps, ZeroMaps

Columns = dict[str, Any]  # arrays by the name of a column; of curves, also their "axes"
CHECKED_ROWS = 4  # the most rows on which the score's scale is checked
FACTOR = 4.0  # by which this check scales the head; a power of two, so that it rounds nothing
# ablation drops in float32 are rounded to about 1e-4; another scale is off by a whole factor
TOLERANCE = 1e-3


def traced(cut_model: CutModel, batch: Batch) -> Trace:
    """Return the batch's trace. An error of the network gets a note about the images' size, the
    usual cause.
    """
    try:
        return trace_of_batch(cut_model, batch)
    except RuntimeError as error:
        size = " x ".join(map(str, batch.images.shape[2:]))
        error.add_note(
            f"raised by the network on images of {size}; give all its size (pictures: by "
            "model.resize)"
        )
        raise


def note_silence(trace: Trace, notes: Notes = WARNINGS) -> bool:
    """Return True if the layer's gradients are zero for every image; then a note names a layer
    where they aren't.

    If the layer's maps have only one position, another note says so.
    """
    if trace.activations.shape[2:].numel() == 1:
        notes.add(ZeroMaps(single_position_note(trace)))
    is_silent = not trace.has_gradients
    if is_silent:
        notes.add(ZeroMaps(zero_gradients_note(trace)))
    return is_silent


def trace_of_batch(cut_model: CutModel, batch: Batch) -> Trace:
    """Return the trace of a batch, including the batch's interventions, other images and other
    inputs.
    """
    trace = cut_model.trace(
        batch.images,
        batch.targets,
        interventions=batch.interventions,
        other_images=batch.other_images,
        other_inputs=batch.other_inputs,
    )
    return replace(trace, image_ids=batch.image_ids)


def explained(
    trace: Trace,
    annotations: Batch | Mapping[str, object],
    method: Method,
    normalise: str = "maximum",
    notes: Notes = WARNINGS,
) -> Explanation | None:
    """Return a method's explanation of a trace. If it doesn't apply to the model, add a note and
    return None.
    """
    answer = method_answer(method, trace, notes)
    return None if answer is None else Explanation.of(trace, answer, annotations, method, normalise)


def method_answer(method: Method, trace: Trace, notes: Notes = WARNINGS) -> Tensor | Map | None:
    """Return the method's weights or Map, detached.

    If the method doesn't apply to the model, add a note and return None.

    Raises:
        InvalidParameter: if a parameter of the method has a value that it can't have.
        BenchError: if the method returned anything else, or another shape.
    """
    try:
        answer = method(trace)
    except InvalidParameter as error:
        raise InvalidParameter(f"The method {method.name!r} can't run: {error}") from error
    except BenchError as error:  # another error is a defect of the method, and isn't caught
        notes.add(MethodLeftOut(f"The method {method.name!r} is left out: {error}"))
        return None
    note = answer.note(method.name) if isinstance(answer, CamMap) else None
    if note is not None:
        notes.add(note)
    if isinstance(answer, Map):
        if is_map(answer.raw, trace.dimensions) and len(answer.raw) == len(trace):
            return replace(answer, raw=answer.raw.detach())
    elif isinstance(answer, Tensor) and not answer.is_complex():
        full_shape = trace.activations.shape
        if answer.shape == full_shape[:2] or _broadcasts(answer.shape, full_shape):
            return answer.detach()
    returned = described(answer.raw if isinstance(answer, Map) else answer)
    raise BenchError(
        f"The method {method.name!r} returned {returned}; a method returns real weights (B, K), "
        f"or that broadcast to the activations {tuple(trace.activations.shape)}, or an "
        f"axiom_bench.Map of (B, {SPACES[trace.dimensions].lower()}), floating point and of at "
        "least one pixel."
    )


def note_non_finite(
    method: Method, trace: Trace, answer: Tensor | Map, notes: Notes = WARNINGS
) -> None:
    """Add a note if maps of images with finite scores aren't finite, only once for each method of a
    cut model.
    """
    values = answer.raw if isinstance(answer, Map) else answer
    wrong = ~values.expand(len(trace), *values.shape[1:]).isfinite()
    wrong_rows = wrong.flatten(1).any(1) & trace.logits.isfinite().all(1)
    if isinstance(answer, Map) and answer.missing is not None:
        wrong_rows &= ~answer.missing.to(wrong_rows.device)
    key = ("maps that aren't finite", method.name)
    if not wrong_rows.any() or trace.cut_model.holds(key):
        return
    trace.cut_model.once(key, lambda: True)
    row = int(wrong_rows.nonzero()[0])
    name = row if trace.image_ids is None else trace.image_ids[row]
    where = f"{int(wrong[row].sum())} of {wrong[row].numel()} pixels are NaN or infinite"
    if not isinstance(answer, Map):
        # weights may be (B, K)
        channels = wrong[row].flatten(1).any(1) if wrong.ndim > 2 else wrong[row]
        dead = int((channels & dead_channels(trace.activations[row : row + 1])[0]).sum())
        where = (
            f"the weights of {int(channels.sum())} of {len(channels)} channels are NaN or "
            f"infinite, {dead} of them "
        )
        where += (
            "whose maps are all zero; divide as axiom_bench.cutting.numerics.guarded_divide does"
        )
    extent = f"aren't finite for {int(wrong_rows.sum())} of {plural(len(trace), 'image')}"
    notes.add(NotFiniteMaps(f"The maps of {method.name!r} {extent}: of image {name} {where}."))


def _broadcasts(shape: torch.Size, full_shape: torch.Size) -> bool:
    """Return True if a tensor broadcasts to a shape with as many dimensions."""
    if len(shape) != len(full_shape):
        return False
    return all(size in (1, full_size) for size, full_size in zip(shape, full_shape, strict=True))


def with_score_scale(
    methods: Iterable[Method], trace: Trace, notes: Notes = WARNINGS
) -> list[Method]:
    """Return the methods with `on_score_scale` decided, once for a run. It is False if a method
    doesn't apply.
    """
    decided = []
    for method in methods:
        if method.spec.on_score_scale is None:
            is_applicable = method_answer(method, trace[:1], notes) is not None
            claim = is_applicable and scales_with_score(method, trace)
            method = replace(method, spec=replace(method.spec, on_score_scale=claim))
        decided.append(method)
    return decided


def is_on_score_scale(method: Method, trace: Trace) -> bool:
    """Return True if the method is on the score's scale. If its YAML file doesn't say so, this
    trace is checked.
    """
    claim = method.spec.on_score_scale
    return scales_with_score(method, trace) if claim is None else claim


def scales_with_score(method: Callable[[Trace], Tensor | Map], trace: Trace) -> bool:
    """Return True if a method's contributions grow with the head's output and ignore the unit of
    the head's input. The axioms compare contributions with scores, so they need this.

    The contributions must be c times as large when the head's output is c times as large. They must
    stay unchanged when the activations are c times as large and the head's input is divided by c.
    The first rows of `trace` are checked. The result is False for a `Map`, which has no
    contributions, and for contributions that are all zero or not finite, because they prove
    nothing.
    """
    rows = trace[:CHECKED_ROWS]
    answer = method(rows)
    if isinstance(answer, Map):
        return False
    contributions = weighted(answer, rows.activations)
    if not contributions.any():
        return False
    scaled_cases = (
        (rows.scaled(output=FACTOR), FACTOR * contributions),
        (rows.scaled(inputs=FACTOR), contributions),
    )
    for scaled_rows, expected in scaled_cases:
        scaled_answer = method(scaled_rows)
        if isinstance(scaled_answer, Map):
            return False
        if not _equal(weighted(scaled_answer, scaled_rows.activations), expected):
            return False
    return True


def _equal(actual: Tensor, expected: Tensor) -> bool:
    """Return True if two (B, K, H, W) are equal for every image, up to rounding relative to that
    image's maximum.
    """
    error = (actual - expected).abs().flatten(1).amax(1)
    maximum = expected.abs().flatten(1).amax(1)
    return bool((error <= TOLERANCE * maximum).all())


def columns(
    image_ids: Sequence[str],
    targets: np.ndarray,
    predictions: np.ndarray,
    method: str,
    measurement: Measurement,
) -> Iterator[Columns]:
    """Yield the columns of a method's values, and those of its curves if it has any. Each value or
    curve has B rows.

    The columns of curves also hold "axes", {curve: {at, x, y, title, better}}, for the curves that
    can be drawn.

    Args:
        image_ids: the ids of the B images.
        targets: the explained classes, (B,).
        predictions: the predicted classes, (B,).
        method: the method's name.
        measurement: the values and curves.
    """

    def shared_columns(measured: Measured) -> Columns:
        count = len(measured)
        all_statuses: list[str] = []
        for _, statuses in measured.values():
            all_statuses.extend(statuses)
        return {
            "image_id": np.tile(np.array(image_ids, dtype=object), count),
            "target_class": np.tile(targets, count),
            "predicted_class": np.tile(predictions, count),
            "method": np.full(len(image_ids) * count, method, dtype=object),
            "status": np.array(all_statuses, dtype=object),
        }

    def name_column(measured: Measured) -> np.ndarray:
        return np.repeat(np.array(list(measured), dtype=object), len(image_ids))

    value_columns = shared_columns(measurement.values)
    value_columns["metric"] = name_column(measurement.values)
    numbers = [values.numpy() for values, _ in measurement.values.values()]
    value_columns["value"] = np.concatenate(numbers) if numbers else np.zeros(0)
    yield value_columns
    if not measurement.curves:
        return
    curve_columns = shared_columns(measurement.curves)
    curve_columns["curve"] = name_column(measurement.curves)
    points = [row for table, _ in measurement.curves.values() for row in table.numpy()]
    curve_columns["points"] = np.empty(len(points), dtype=object)  # of arrays of any lengths
    curve_columns["points"][:] = points
    curve_columns["axes"] = measurement.axes
    yield curve_columns


def holds_values(part: Columns) -> bool:
    """Return True for columns of values, and False for columns of curves."""
    return "value" in part


def frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Return columns of values after each other in one table; without values, the empty table of
    RECORD_COLUMNS.
    """
    filled_parts = [part for part in parts if len(part["value"])]
    return _table(filled_parts, filled_parts[0] if filled_parts else RECORD_COLUMNS)


def curve_frame(parts: Iterable[Columns]) -> pd.DataFrame:
    """Return columns of curves after each other in one table, which may be empty."""
    return _table(list(parts), CURVE_COLUMNS)


def _table(parts: Sequence[Columns], names: Iterable[str]) -> pd.DataFrame:
    """Return a table with the columns of these names, which have the rows of all parts."""
    if not parts:
        return pd.DataFrame(columns=list(names))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in names})
