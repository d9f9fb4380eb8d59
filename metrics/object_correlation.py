"""The correlation of one image's maps of two objects of a class: whether a map is of its object, or
of the class.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.objects import at_objects
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def object_correlation(
    explanation: Explanation, similarity: str = "pearson"
) -> MetricGenerator[Tensor]:
    """Similarity of the maps of the explained object and of another of its class -> (B,), lower is
    better.

    The other one is that in the largest other box of the class, of equal boxes the first. There it
    is the network's box with the highest IoU, or the region where the class is the most probable.
    similarity: see `shared.similarity`. Pearson's correlation of the signed raw maps is in [-1, 1]:
    1 where the map doesn't depend on the object, NaN where a map is constant. Costs a pass and a
    trace, shared by all methods, and one run of the method.
    """
    trace = explanation.required_trace

    def other_trace() -> Trace:
        return at_objects(
            trace, torch.stack([*map(_largest, given(explanation.same_class, "same_class"))])
        )

    compare = partial(similarity_of, explanation, kind=similarity)
    return (yield Reexplanation(other_trace, compare, key="largest other object of its class"))


def _largest(boxes: Tensor) -> Tensor:
    """The largest box (4,) of (n, 4); zeros where there is none, in a row whose value is
    dropped.
    """
    starts, ends = boxes.chunk(2, 1)
    return (
        boxes[(ends - starts).prod(1).argmax()] if len(boxes) else boxes.new_zeros(boxes.shape[1])
    )
