"""The preconditions of metrics: a predicate and a status for each name that `needs:` in a metric's
YAML may contain.

If a need isn't met, the value is NaN and the status says why, so no image is dropped silently. A
metric's function therefore needn't check its input.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NO_MAP, NOT_FINITE, OK
from axiom_bench.cutting.interventions import FINDER_PATTERNS, GROUND, TIMING_PATTERNS, Part
from axiom_bench.errors import unknown_name

if TYPE_CHECKING:
    from axiom_bench.cutting.trace import Trace
    from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation

    Holds = Callable[[Explanation, bool], Tensor | bool]
    # needs, explanation, whether its method is on the score's scale
    Asked = tuple[Sequence[str], Explanation, bool]

Row = TypeVar("Row")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precondition:
    """A condition that an explanation must meet for a metric to have a value."""

    status: str
    """The status of rows that don't meet the condition."""
    holds: Holds
    """holds(explanation, on_score_scale): Return bool (B,), or one bool for all rows."""
    after: Precondition | None = None
    """A precondition that is checked first."""


def _of_trace(holds: Callable[[Trace], Tensor | bool]) -> Holds:
    """Return a predicate of explanations from one of traces. An explanation without a trace doesn't
    meet it.
    """
    return lambda explanation, _: explanation.trace is not None and holds(explanation.trace)


def _for_each_row(rows: Sequence[Row] | None, holds: Callable[[Row], object]) -> Tensor | bool:
    """Return whether a predicate's result is true for each row, or False if there are no rows."""
    return rows is not None and torch.tensor([bool(holds(row)) for row in rows])


def _score_to_divide_by(explanation: Explanation, _: bool) -> Tensor | bool:
    # A method that divides by S has NaN weights if S = 0. This status distinguishes it from a NaN
    # of the network.
    if explanation.trace is None:
        return True
    return (explanation.trace.scores != 0) | explanation.finite


def _positive_truth(trace: Trace) -> Tensor | bool:
    truth = trace.true_contributions
    return truth is not None and (truth.sum(1) > 0).flatten(1).any(1)


def _boxes(explanation: Explanation, _: bool) -> Tensor | bool:
    return _for_each_row(explanation.boxes, len)


def _objects(explanation: Explanation, on_score_scale: bool) -> Tensor | bool:
    boxes = _boxes(explanation, on_score_scale)
    return boxes if explanation.wrong_class is None else boxes | explanation.wrong_class


def _shows_another_class(objects: AnnotatedObjects) -> bool:
    return objects.mask is not None and bool((objects.mask >= 0).any())


def _other_objects(explanation: Explanation, _: bool) -> Tensor | bool:
    shows_others = _for_each_row(explanation.others, lambda objects: len(objects.labels))
    return shows_others | _for_each_row(explanation.same_class, len)


def _shows_code(parts: Sequence[Part]) -> bool:
    return {FINDER_PATTERNS, TIMING_PATTERNS} <= {part.name for part in parts}


def _positive_effect(trace: Trace) -> Tensor | bool:
    if trace.interventions is None:
        return False

    def holds(row: tuple[Sequence[Part], Tensor]) -> bool:
        parts, effects = row
        return any(
            part.name != GROUND and effect > 0
            for part, effect in zip(parts, effects.tolist(), strict=True)
        )

    return _for_each_row(list(zip(trace.interventions, trace.part_effects, strict=True)), holds)


HAS_MAP = Precondition(
    NO_MAP, lambda explanation, _: explanation.missing is None or ~explanation.missing
)
# Every metric has these preconditions, except metrics that need only a finite score: they count a
# map that isn't finite as a miss.
ALWAYS = (
    Precondition("zero_score", _score_to_divide_by),
    Precondition(NOT_FINITE, lambda explanation, _: explanation.finite),
)
TRUTH = Precondition("no_truth", _of_trace(lambda trace: trace.true_contributions is not None))
WRONG_CLASS = Precondition(
    "wrong_class",
    lambda explanation, _: explanation.wrong_class is None or ~explanation.wrong_class,
)
OTHER_LOGITS = Precondition("one_logit", _of_trace(lambda trace: trace.logits.shape[1] > 1))
PRECONDITIONS = {
    "contributions": Precondition(
        "no_contributions", lambda explanation, _: explanation.contributions is not None
    ),
    "score_scale": Precondition("not_on_score_scale", lambda _, on_score_scale: on_score_scale),
    "nonzero_score": Precondition("zero_score", _of_trace(lambda trace: trace.scores != 0)),
    "nonzero_drops": Precondition(
        "zero_drops", _of_trace(lambda trace: (trace.ablation_drops != 0).any(1))
    ),
    "truth": TRUTH,
    "positive_truth": Precondition("zero_truth", _of_trace(_positive_truth), after=TRUTH),
    "nonzero_map": Precondition(
        "zero_map",
        lambda explanation, _: (
            explanation.heatmap is not None and explanation.heatmap.flatten(1).amax(1) > 0
        ),
    ),
    "finite_score": Precondition(
        NOT_FINITE,
        lambda explanation, _: explanation.trace is None or explanation.trace.scores.isfinite(),
    ),
    "boxes": Precondition("no_annotation", _boxes),
    "objects": Precondition("no_annotation", _objects),
    "masks": Precondition(
        "no_mask",
        lambda explanation, _: (
            explanation.masks is not None and explanation.masks.flatten(1).amax(1)
        ),
    ),
    "cells": Precondition("no_cells", lambda explanation, _: _for_each_row(explanation.cells, len)),
    "other_classes": Precondition(
        "one_class",
        lambda explanation, _: _for_each_row(
            explanation.others, lambda objects: len(objects.labels)
        ),
    ),
    "other_masked_classes": Precondition(
        "one_class", lambda explanation, _: _for_each_row(explanation.others, _shows_another_class)
    ),
    "same_class": Precondition(
        "one_object", lambda explanation, _: _for_each_row(explanation.same_class, len)
    ),
    "another_object": Precondition(
        "one_object",
        lambda explanation, _: explanation.of_words or _for_each_row(explanation.same_class, len),
    ),
    "other_objects": Precondition("one_object", _other_objects),
    "other_logits": OTHER_LOGITS,
    "interventions": Precondition(
        "no_interventions", _of_trace(lambda trace: _for_each_row(trace.interventions, len))
    ),
    "mark": Precondition(
        "no_mark",
        _of_trace(
            lambda trace: _for_each_row(
                trace.interventions, lambda parts: any(part.is_mark for part in parts)
            )
        ),
    ),
    "structure": Precondition(
        "no_structure",
        _of_trace(lambda trace: _for_each_row(trace.interventions, _shows_code)),
    ),
    "positive_effect": Precondition("no_positive_effect", _of_trace(_positive_effect)),
    "finetuned": Precondition(
        "no_finetuned", _of_trace(lambda trace: trace.cut_model.finetuned is not None)
    ),
    "probability": Precondition(
        "no_probability",
        _of_trace(lambda trace: trace.cut_model.output.softmax),
        after=OTHER_LOGITS,
    ),
}


def statuses(needs: Sequence[str], explanation: Explanation, on_score_scale: bool) -> np.ndarray:
    """Return "ok" for each row, or the status of the first need that isn't met: (B,) of str
    objects.

    Finite values are checked first. A need is evaluated only while any row meets the needs before
    it, so that drops aren't computed for a Map.

    Raises:
        BenchError: if a need has no predicate.
    """
    answer = np.full(len(explanation), OK, dtype=object)
    for condition in _all_conditions(needs):
        if not (answer == OK).any():
            break
        is_met = _rows_that_meet(condition, explanation, on_score_scale)
        answer[(answer == OK) & ~is_met] = condition.status
    return answer


def look_up(asked: Iterable[Asked]) -> None:
    """Evaluate all conditions that `statuses` will ask of these explanations; copy a GPU's answers
    at once.

    A condition is evaluated under the same circumstances as in `statuses`, except that rows that
    only a GPU knows count as rows that meet it.
    """
    pending = list(_answers_on_device(asked))
    if not pending:
        return
    answers = torch.stack([holds for *_, holds in pending]).cpu().numpy()
    for (explanation, key, _), rows in zip(pending, answers, strict=True):
        explanation.once(key, partial(np.copy, rows))


def _answers_on_device(asked: Iterable[Asked]) -> Iterator[tuple[Explanation, Hashable, Tensor]]:
    """Yield (explanation, key, (B,) bool) of answers that aren't on the CPU. Explanations keep
    answers that are.
    """
    seen = set()
    for needs, explanation, on_score_scale in asked:
        is_met = np.ones(len(explanation), dtype=bool)  # as far as the CPU knows
        for condition in _all_conditions(needs):
            key = _key(condition, on_score_scale)
            if not is_met.any():
                break
            if (id(explanation), key) in seen:
                continue
            holds = None if explanation.holds(key) else condition.holds(explanation, on_score_scale)
            if isinstance(holds, Tensor) and holds.device != CPU:
                seen.add((id(explanation), key))
                yield explanation, key, holds
            else:
                is_met &= explanation.once(key, partial(_as_rows, holds, len(explanation)))


def _rows_that_meet(
    condition: Precondition, explanation: Explanation, on_score_scale: bool
) -> np.ndarray:
    """Return which rows meet a condition, (B,) bool. It is evaluated once for all metrics."""

    def evaluated() -> np.ndarray:
        holds = condition.holds(explanation, on_score_scale)
        return _as_rows(holds, len(explanation))

    return explanation.once(_key(condition, on_score_scale), evaluated)


def _key(condition: Precondition, on_score_scale: bool) -> Hashable:
    """Return the key under which an explanation keeps the answer of a condition."""
    return "precondition", condition.holds, on_score_scale


def _as_rows(holds: Tensor | bool | None, rows: int) -> np.ndarray:
    """Return a predicate's result as an array with an entry per row."""
    return holds.cpu().numpy() if isinstance(holds, Tensor) else np.full(rows, holds)


def _all_conditions(needs: Sequence[str]) -> Iterator[Precondition]:
    """Yield the conditions in the order in which they are checked: a map, finite values, then those
    of the needs.

    Finite values aren't checked if the needs contain "finite_score". A class that the image doesn't
    show has its own status, because its boxes aren't missing. Raise BenchError if a need has no
    condition.
    """
    yield HAS_MAP
    if "finite_score" not in needs:
        yield from ALWAYS
    for need in needs:
        if need not in PRECONDITIONS:
            raise unknown_name("precondition of a metric (`needs`)", need, PRECONDITIONS)
        condition = PRECONDITIONS[need]
        first = WRONG_CLASS if need in ("boxes", "masks", "cells") else condition.after
        if first is not None:
            yield first
        yield condition
