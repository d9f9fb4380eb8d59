"""The correlation of one image's maps of two of its classes: class discriminability that needs no regions."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.batch import Annotation
from bench.explanation import Explanation
from bench.preconditions import given
from metrics.similarity import similarity as likeness


def class_correlation(explanation: Explanation, similarity: str = "pearson") -> Tensor:
    """How alike the maps of the explained class and of another class in the image are -> (B,), lower is better.

    The other class is that of the largest box of another class, of equals the first in the annotation. It is the only
    one, however many the image has, so that every image costs one trace and the method; it is no mean over classes.
    similarity: see `metrics.similarity`; Pearson's correlation of the signed raw maps is in [-1, 1]: 1 where the map
    doesn't depend on the class at all, NaN where a map is constant.
    """
    targets = given(explanation.trace, "trace").targets
    notes = given(explanation.others, "others")
    others = [_largest(note, int(target)) for note, target in zip(notes, targets, strict=True)]
    return likeness(explanation, explanation.again(targets=torch.tensor(others)), similarity)


def _largest(note: Annotation, otherwise: int) -> int:
    """The class of the largest box; `otherwise` where there is none, a row whose value is dropped."""
    areas = (note.boxes[:, 2:] - note.boxes[:, :2]).prod(1)
    return int(note.labels[areas.argmax()]) if len(areas) else otherwise
