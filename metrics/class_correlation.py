"""The correlation of one image's maps of two of its classes: class discriminability that needs no
regions.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.evaluation.queries import MetricGenerator, Reexplanation
from axiom_bench.explanation.explanation import AnnotatedObjects, Explanation, given
from axiom_bench.metrics.shared.similarity import similarity as similarity_of


def class_correlation(
    explanation: Explanation, similarity: str = "pearson"
) -> MetricGenerator[Tensor]:
    """Similarity of the maps of the explained class and of another class in the image -> (B,),
    lower is better.

    The other class is the one with the largest box among all other classes, of equal boxes the
    first in the annotation. similarity: see `shared.similarity`; Pearson's correlation of the
    signed raw maps is in [-1, 1]: 1 where the map doesn't depend on the class, NaN where a map is
    constant. Costs one trace, shared by all methods, and one run of the method.
    """
    trace = explanation.required_trace

    def other_trace() -> Trace:
        pairs = zip(given(explanation.others, "others"), trace.targets, strict=True)
        classes = [_class_of_largest_box(objects, default=int(target)) for objects, target in pairs]
        return trace.again(targets=torch.tensor(classes))

    compare = partial(similarity_of, explanation, kind=similarity)
    return (yield Reexplanation(other_trace, compare, key="class of the largest box"))


def _class_of_largest_box(objects: AnnotatedObjects, default: int) -> int:
    """The class of the largest box; `default` where there is none, in a row whose value is
    dropped.
    """
    starts, ends = objects.boxes.chunk(2, 1)
    areas = (ends - starts).prod(1)
    return int(objects.labels[areas.argmax()]) if len(areas) else default
