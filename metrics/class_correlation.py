"""The correlation of one image's maps of two of its classes: class discriminability that needs no regions."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import Again
from axiom_bench.explanation.annotations import Objects
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.similarity import similarity as likeness


def class_correlation(explanation: Explanation, similarity: str = "pearson") -> Tensor:
    """How alike the maps of the explained class and of another class in the image are -> (B,), lower is better.

    The other class is that of the largest box of another class, of equals the first in the annotation. It is the only
    one, however many the image has, so that every image costs one trace, for all methods, and the method; it is no mean
    over classes. similarity: see `shared.similarity`; Pearson's correlation of the signed raw maps is in [-1, 1]: 1
    where the map doesn't depend on the class at all, NaN where a map is constant.
    """
    return queries(explanation, similarity).answer()


def queries(explanation: Explanation, similarity: str) -> Again:
    """The similarity with the same method's map of the other class: (B,)."""
    trace = given(explanation.trace, "trace")

    def other() -> Trace:
        notes = given(explanation.others, "others")
        others = [_largest(note, int(target)) for note, target in zip(notes, trace.targets, strict=True)]
        return trace.again(targets=torch.tensor(others))

    change = "class of the largest box"
    return Again(explanation, change, other, (change, similarity), partial(likeness, explanation, kind=similarity))


def _largest(note: Objects, otherwise: int) -> int:
    """The class of the largest box; `otherwise` where there is none, a row whose value is dropped."""
    areas = (note.boxes[:, 2:] - note.boxes[:, :2]).prod(1)
    return int(note.labels[areas.argmax()]) if len(areas) else otherwise
