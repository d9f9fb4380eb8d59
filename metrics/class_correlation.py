"""The correlation of one image's maps of two of its classes: class discriminability that needs no regions."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import Asking, Reexplanation
from axiom_bench.explanation.annotations import Objects
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def class_correlation(explanation: Explanation, similarity: str = "pearson") -> Asking[Tensor]:
    """How alike the maps of the explained class and of another class in the image are -> (B,), lower is better.

    The other class is that of the largest box of another class, of equals the first in the annotation. It is the only
    one, however many the image has, so that every image costs one trace, for all methods, and the method; it is no mean
    over classes. similarity: see `shared.similarity`; Pearson's correlation of the signed raw maps is in [-1, 1]: 1
    where the map doesn't depend on the class at all, NaN where a map is constant.
    """
    trace = given(explanation.trace, "trace")

    def other() -> Trace:
        pairs = zip(given(explanation.others, "others"), trace.targets, strict=True)
        return trace.again(targets=torch.tensor([_largest(objects, int(target)) for objects, target in pairs]))

    read = partial(similarity_of, explanation, kind=similarity)
    return (yield Reexplanation(other, read, key="class of the largest box"))


def _largest(objects: Objects, default: int) -> int:
    """The class of the largest box; `default` where there is none, a row whose value is dropped."""
    areas = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1)
    return int(objects.labels[areas.argmax()]) if len(areas) else default
