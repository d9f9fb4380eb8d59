"""The correlation of an image's maps of two of its classes.

It measures class discriminability without regions.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation, required_field
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def class_correlation(
    explanation: Explanation, similarity: str = "pearson"
) -> MetricGenerator[Tensor]:
    """Compute the similarity of the maps of the explained class and of another class in the image.

    The other class has the largest box among all other classes; of equal boxes, the first in the
    annotation counts. The metric costs one trace, shared by all methods, and one run of the method.

    Args:
        explanation: The explanation, with its trace and the other objects of each image.
        similarity: The kind of similarity; see `shared.similarity`. Pearson's correlation of the
            signed raw maps is in [-1, 1].

    Returns:
        The similarities, (B,); lower is better. Pearson's correlation is 1 if the map doesn't
        depend on the class, and NaN if a map is constant.
    """
    trace = explanation.required_trace

    # A function, because the trace is made once for all methods that ask for its key.
    def other_trace() -> Trace:
        others = required_field(explanation.others, "others")
        classes = []
        for objects, target in zip(others, trace.targets, strict=True):
            classes.append(_class_of_largest_box(objects, default=int(target)))
        return trace.again(targets=torch.tensor(classes))

    compare = partial(similarity_of, explanation, kind=similarity)
    answer: Tensor = yield Reexplanation(other_trace, compare, key="class of the largest box")
    return answer


def _class_of_largest_box(objects: AnnotatedObjects, default: int) -> int:
    """Return the class of the largest box, or `default` for a row without one.

    The value of a row without a box is dropped.
    """
    starts, ends = objects.boxes.chunk(2, 1)
    areas = (ends - starts).prod(1)
    return int(objects.labels[areas.argmax()]) if len(areas) else default
