"""Preconditions of metrics: a predicate and a status for each name that `needs:` in a metric's YAML may hold.

Where a need isn't met the value is NaN and the status says why; no image is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NO_MAP, NOT_FINITE, OK
from axiom_bench.cutting.interventions import GROUND, Part
from axiom_bench.errors import unknown

if TYPE_CHECKING:
    from axiom_bench.cutting.trace import Trace
    from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation

    Holds = Callable[[Explanation, bool], Tensor | bool]
    Asked = tuple[Sequence[str], Explanation, bool]  # needs, explanation, whether its method is on the score's scale

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precondition:
    """holds(explanation, on_score_scale) -> bool (B,), or one bool for all rows. status: of rows where it is False.

    after: a precondition that is checked first.
    """

    status: str
    holds: Holds
    after: Precondition | None = None


def _of_trace(holds: Callable[[Trace], Tensor | bool]) -> Holds:
    """A predicate of the trace, False where an explanation has none."""
    return lambda explanation, _: explanation.trace is not None and holds(explanation.trace)


def _each(rows: Sequence[Any] | None, holds: Callable[[Any], Any]) -> Tensor | bool:
    """Whether it holds, row by row; False where there are no rows."""
    return rows is not None and torch.tensor([bool(holds(row)) for row in rows])


def _score_to_divide_by(explanation: Explanation, _: bool) -> Tensor | bool:
    # A method that divides by S has NaN weights where S = 0; the status tells this from a network's NaN.
    if explanation.trace is None:
        return True
    return (explanation.trace.scores != 0) | explanation.finite


def _nonzero_score(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.trace is not None and explanation.trace.scores != 0


def _positive_truth(trace: Trace) -> Tensor | bool:
    truth = trace.true_contributions
    return truth is not None and (truth.sum(1) > 0).flatten(1).any(1)


def _boxes(explanation: Explanation, _: bool) -> Tensor | bool:
    return _each(explanation.boxes, len)


def _objects(explanation: Explanation, _: bool) -> Tensor | bool:
    boxes = _boxes(explanation, _)
    return boxes if explanation.wrong_class is None else boxes | explanation.wrong_class


def _shows_another_class(objects: AnnotatedObjects) -> bool:
    return objects.mask is not None and bool((objects.mask >= 0).any())


def _other_objects(explanation: Explanation, _: bool) -> Tensor | bool:
    return _each(explanation.others, lambda objects: len(objects.labels)) | _each(explanation.same_class, len)


def _positive_effect(trace: Trace) -> Tensor | bool:
    if trace.interventions is None:
        return False

    def holds(row: tuple[Sequence[Part], Tensor]) -> bool:
        return any(part.name != GROUND and effect > 0 for part, effect in zip(row[0], row[1].tolist(), strict=True))

    return _each(list(zip(trace.interventions, trace.part_effects, strict=True)), holds)


HAS_MAP = Precondition(NO_MAP, lambda explanation, _: explanation.missing is None or ~explanation.missing)
# Of every metric but those that need a finite score alone, and count a map that isn't finite as a miss.
ALWAYS = (
    Precondition("zero_score", _score_to_divide_by),
    Precondition(NOT_FINITE, lambda explanation, _: explanation.finite),
)
TRUTH = Precondition("no_truth", _of_trace(lambda trace: trace.true_contributions is not None))
WRONG_CLASS = Precondition(
    "wrong_class", lambda explanation, _: explanation.wrong_class is None or ~explanation.wrong_class
)
OTHER_LOGITS = Precondition("one_logit", _of_trace(lambda trace: trace.logits.shape[1] > 1))
PRECONDITIONS = {
    "contributions": Precondition("no_contributions", lambda explanation, _: explanation.contributions is not None),
    "score_scale": Precondition("not_on_score_scale", lambda _, on_score_scale: on_score_scale),
    "nonzero_score": Precondition("zero_score", _nonzero_score),
    "nonzero_drops": Precondition("zero_drops", _of_trace(lambda trace: (trace.ablation_drops != 0).any(1))),
    "truth": TRUTH,
    "positive_truth": Precondition("zero_truth", _of_trace(_positive_truth), after=TRUTH),
    "nonzero_map": Precondition(
        "zero_map",
        lambda explanation, _: explanation.heatmap is not None and explanation.heatmap.flatten(1).amax(1) > 0,
    ),
    "finite_score": Precondition(
        NOT_FINITE, lambda explanation, _: explanation.trace is None or explanation.trace.scores.isfinite()
    ),
    "boxes": Precondition("no_annotation", _boxes),
    "objects": Precondition("no_annotation", _objects),
    "masks": Precondition(
        "no_mask", lambda explanation, _: explanation.masks is not None and explanation.masks.flatten(1).amax(1)
    ),
    "cells": Precondition("no_cells", lambda explanation, _: _each(explanation.cells, len)),
    "other_classes": Precondition(
        "one_class", lambda explanation, _: _each(explanation.others, lambda objects: len(objects.labels))
    ),
    "other_masked_classes": Precondition(
        "one_class", lambda explanation, _: _each(explanation.others, _shows_another_class)
    ),
    "same_class": Precondition("one_object", lambda explanation, _: _each(explanation.same_class, len)),
    "other_objects": Precondition("one_object", _other_objects),
    "other_logits": OTHER_LOGITS,
    "interventions": Precondition("no_interventions", _of_trace(lambda trace: _each(trace.interventions, len))),
    "mark": Precondition(
        "no_mark",
        _of_trace(lambda trace: _each(trace.interventions, lambda parts: any(part.is_mark for part in parts))),
    ),
    "positive_effect": Precondition("no_positive_effect", _of_trace(_positive_effect)),
    "finetuned": Precondition("no_finetuned", _of_trace(lambda trace: trace.cut_model.finetuned is not None)),
    "probability": Precondition(
        "no_probability", _of_trace(lambda trace: trace.cut_model.output.softmax), after=OTHER_LOGITS
    ),
}


def statuses(needs: Sequence[str], explanation: Explanation, on_score_scale: bool) -> np.ndarray:
    """Per row "ok", or the status of the first need that isn't met, finite values first: (B,) of str objects.

    A need is only evaluated while any row meets the needs before it: drops aren't computed for a Map.
    Raises BenchError for a need that has no predicate.
    """
    answer = np.full(len(explanation), OK, dtype=object)
    for condition in _all_conditions(needs):
        if not (answer == OK).any():
            break
        answer[(answer == OK) & ~_rows_that_meet(condition, explanation, on_score_scale)] = condition.status
    return answer


def look_up(asked: Iterable[Asked]) -> None:
    """Looks up all that `statuses` will ask of these needs, explanations and scales; a GPU's answers come in one copy.

    A need is evaluated as there, but for rows that a GPU knows alone."""
    waiting = list(_on_device(asked))
    if waiting:
        answers = torch.stack([holds for *_, holds in waiting]).cpu().numpy()
        for (explanation, key, _), rows in zip(waiting, answers, strict=True):
            explanation.once(key, partial(np.copy, rows))


def _on_device(asked: Iterable[Asked]) -> Iterator[tuple[Explanation, Hashable, Tensor]]:
    """(explanation, key, (B,) bool) of what isn't on the CPU; what is there is kept by the explanation."""
    seen = set()
    for needs, explanation, on_score_scale in asked:
        meet = np.ones(len(explanation), dtype=bool)  # as far as the CPU knows
        for condition in _all_conditions(needs):
            key = _key(condition, on_score_scale)
            if not meet.any():
                break
            if (id(explanation), key) in seen:
                continue
            holds = None if explanation.holds(key) else condition.holds(explanation, on_score_scale)
            if isinstance(holds, Tensor) and holds.device != CPU:
                seen.add((id(explanation), key))
                yield explanation, key, holds
            else:
                meet &= explanation.once(key, partial(_as_rows, holds, len(explanation)))


def _rows_that_meet(condition: Precondition, explanation: Explanation, on_score_scale: bool) -> np.ndarray:
    """(B,) bool. Found once for all metrics."""
    key = _key(condition, on_score_scale)
    return explanation.once(key, lambda: _as_rows(condition.holds(explanation, on_score_scale), len(explanation)))


def _key(condition: Precondition, on_score_scale: bool) -> Hashable:
    return "precondition", condition.holds, on_score_scale


def _as_rows(holds: Tensor | bool | None, rows: int) -> np.ndarray:
    return holds.cpu().numpy() if isinstance(holds, Tensor) else np.full(rows, holds)


def _all_conditions(needs: Sequence[str]) -> Iterator[Precondition]:
    """A map first, and finite values unless a need says otherwise, then what the needs ask for.

    A class that the image doesn't show has a status of its own: its boxes aren't missing.
    """
    yield HAS_MAP
    yield from () if "finite_score" in needs else ALWAYS
    for need in needs:
        if need not in PRECONDITIONS:
            raise unknown("precondition of a metric (`needs`)", need, PRECONDITIONS)
        condition = PRECONDITIONS[need]
        first = WRONG_CLASS if need in ("boxes", "masks", "cells") else condition.after
        yield from (condition,) if first is None else (first, condition)
