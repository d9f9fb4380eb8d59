"""Preconditions of metrics: a predicate and a status for each name that `needs:` in a metric's YAML may hold.

Where a need isn't met the value is NaN and the status says why; no image is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from axiom_bench.columns import NOT_FINITE, OK
from axiom_bench.cutting.interventions import GROUND
from axiom_bench.errors import unknown

if TYPE_CHECKING:
    from axiom_bench.explanation.explanation import Explanation

    Asked = tuple[Sequence[str], Explanation, bool]  # needs, explanation, whether its method is on the score's scale

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Precondition:
    """holds(explanation, on_score_scale) -> bool (B,), or one bool for all rows. status: of rows where it is False.

    after: a precondition that is checked first.
    """

    status: str
    holds: Callable[[Explanation, bool], Tensor | bool]
    after: Precondition | None = None


def _finite(explanation: Explanation, _: bool) -> Tensor:
    return explanation.finite


def _finite_score(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.trace is None or explanation.trace.scores.isfinite()


def _score_to_divide_by(explanation: Explanation, _: bool) -> Tensor | bool:
    # A method that divides by S has NaN weights where S = 0; the status tells this from a network's NaN.
    if explanation.trace is None:
        return True
    return (explanation.trace.scores != 0) | explanation.finite


def _contributions(explanation: Explanation, _: bool) -> bool:
    return explanation.contributions is not None


def _score_scale(_: Explanation, on_score_scale: bool) -> bool:
    return on_score_scale


def _nonzero_score(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.trace is not None and explanation.trace.scores != 0


def _nonzero_drops(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.trace is not None and (explanation.trace.ablation_drops != 0).any(1)


def _truth(explanation: Explanation, _: bool) -> bool:
    return explanation.trace is not None and explanation.trace.true_contributions is not None


def _positive_truth(explanation: Explanation, _: bool) -> Tensor | bool:
    truth = None if explanation.trace is None else explanation.trace.true_contributions
    return truth is not None and (truth.sum(1) > 0).flatten(1).any(1)


def _nonzero_map(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.heatmap is not None and explanation.heatmap.amax((1, 2)) > 0


def _right_class(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.wrong_class is None or ~explanation.wrong_class


def _boxes(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.boxes is not None and torch.tensor([len(boxes) > 0 for boxes in explanation.boxes])


def _cells(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.cells is not None and torch.tensor([len(cells) > 0 for cells in explanation.cells])


def _objects(explanation: Explanation, _: bool) -> Tensor | bool:
    boxes = _boxes(explanation, _)
    return boxes if explanation.wrong_class is None else boxes | explanation.wrong_class


def _other_classes(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.others is not None and torch.tensor([len(note.labels) > 0 for note in explanation.others])


def _other_masked_classes(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.others is not None and torch.tensor([
        note.mask is not None and bool((note.mask >= 0).any()) for note in explanation.others
    ])  # fmt: skip


def _other_logits(explanation: Explanation, _: bool) -> bool:
    return explanation.trace is not None and explanation.trace.logits.shape[1] > 1


def _probability(explanation: Explanation, _: bool) -> bool:
    return explanation.trace is not None and explanation.trace.cut_model.output.softmax


def _masks(explanation: Explanation, _: bool) -> Tensor | bool:
    return explanation.masks is not None and explanation.masks.flatten(1).amax(1)


def _interventions(explanation: Explanation, _: bool) -> Tensor | bool:
    rows = None if explanation.trace is None else explanation.trace.interventions
    return rows is not None and torch.tensor([len(parts) > 0 for parts in rows])


def _mark(explanation: Explanation, _: bool) -> Tensor | bool:
    rows = None if explanation.trace is None else explanation.trace.interventions
    return rows is not None and torch.tensor([any(part.is_mark for part in parts) for parts in rows])


def _positive_effect(explanation: Explanation, _: bool) -> Tensor | bool:
    trace = explanation.trace
    if trace is None or trace.interventions is None:
        return False
    rows = zip(trace.interventions, trace.part_effects, strict=True)
    return torch.tensor([
        any(part.name != GROUND and effect > 0 for part, effect in zip(parts, effects.tolist(), strict=True))
        for parts, effects in rows
    ])  # fmt: skip


# Of every metric but those that need a finite score alone, and count a map that isn't finite as a miss.
ALWAYS = (Precondition("zero_score", _score_to_divide_by), Precondition(NOT_FINITE, _finite))
TRUTH = Precondition("no_truth", _truth)
WRONG_CLASS = Precondition("wrong_class", _right_class)
OTHER_LOGITS = Precondition("one_logit", _other_logits)
PRECONDITIONS = {
    "contributions": Precondition("no_contributions", _contributions),
    "score_scale": Precondition("not_on_score_scale", _score_scale),
    "nonzero_score": Precondition("zero_score", _nonzero_score),
    "nonzero_drops": Precondition("zero_drops", _nonzero_drops),
    "truth": TRUTH,
    "positive_truth": Precondition("zero_truth", _positive_truth, after=TRUTH),
    "nonzero_map": Precondition("zero_map", _nonzero_map),
    "finite_score": Precondition(NOT_FINITE, _finite_score),
    "boxes": Precondition("no_annotation", _boxes),
    "objects": Precondition("no_annotation", _objects),
    "masks": Precondition("no_mask", _masks),
    "cells": Precondition("no_cells", _cells),
    "other_classes": Precondition("one_class", _other_classes),
    "other_masked_classes": Precondition("one_class", _other_masked_classes),
    "other_logits": OTHER_LOGITS,
    "interventions": Precondition("no_interventions", _interventions),
    "mark": Precondition("no_mark", _mark),
    "positive_effect": Precondition("no_positive_effect", _positive_effect),
    "probability": Precondition("no_probability", _probability, after=OTHER_LOGITS),
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
    """Finds all that `statuses` will ask of these needs, explanations and scales; of a GPU, which is waited for, in one
    copy. A need is evaluated as there, but for rows that a GPU knows alone."""
    waiting = list(_on_device(asked))
    if waiting:
        found = torch.stack([holds for *_, holds in waiting]).cpu().numpy()
        for (explanation, key, _), rows in zip(waiting, found, strict=True):
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
    """Finite values first, unless a need says otherwise, then what the needs ask for."""
    yield from () if "finite_score" in needs else ALWAYS
    for need in needs:
        yield from _conditions(need)


def _conditions(need: str) -> tuple[Precondition, ...]:
    """What a need asks for. A class that the image doesn't show has a status of its own: its boxes aren't missing."""
    if need not in PRECONDITIONS:
        raise unknown("precondition of a metric (`needs`)", need, PRECONDITIONS)
    condition = PRECONDITIONS[need]
    first = WRONG_CLASS if need in ("boxes", "masks", "cells") else condition.after
    return (condition,) if first is None else (first, condition)
