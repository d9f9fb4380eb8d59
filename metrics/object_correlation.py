"""The correlation of an image's maps of two objects of the same class, or of two words.

It measures whether a map belongs to its object or to the class, and to its word or to the text.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.objects import trace_objects, trace_other_object
from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import Explanation, required_field
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def object_correlation(
    explanation: Explanation, similarity: str = "pearson"
) -> MetricGenerator[Tensor]:
    """Compute the similarity of the maps of the explained object and of another of its class.

    The other object is the one in the largest other box of the class; of equal boxes, the first
    counts. It is explained at the network's box with the highest IoU, or in the region where the
    class is the most probable. Of a word, the other one is the first content word of another
    spelling in the text. The metric costs a pass and a trace, shared by all methods, and one
    run of the method.

    Args:
        explanation: The explanation, with its maps, its trace and the other boxes of the class.
        similarity: The kind of similarity; see `shared.similarity`. Pearson's correlation of the
            signed raw maps is in [-1, 1].

    Returns:
        The similarities, (B,); lower is better. Pearson's correlation is 1 if the map doesn't
        depend on the object, and NaN if a map is constant.
    """
    trace = explanation.required_trace

    # A function, because the trace is made once for all methods that ask for its key.
    def other_trace() -> Trace:
        if explanation.of_words:
            return trace_other_object(trace)
        other_boxes = required_field(explanation.same_class, "same_class")
        return trace_objects(trace, torch.stack([_largest(boxes) for boxes in other_boxes]))

    compare = partial(similarity_of, explanation, kind=similarity)
    answer: Tensor = yield Reexplanation(
        other_trace, compare, key="largest other object of its class"
    )
    return answer


def _largest(boxes: Tensor) -> Tensor:
    """Return the largest box (4,) of (n, 4), or zeros for a row without one.

    The value of a row without a box is dropped.
    """
    if not len(boxes):
        return boxes.new_zeros(boxes.shape[1])
    starts, ends = boxes.chunk(2, 1)
    areas = (ends - starts).prod(1)
    return boxes[areas.argmax()]
