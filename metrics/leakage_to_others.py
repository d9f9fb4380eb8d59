"""Leakage of one object's map to all other objects: after Zhao and Chan, ODAM, ICLR 2023,
arXiv:2304.06354.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.regions import leakage


def leakage_to_others(explanation: Explanation) -> Tensor:
    """sum of h in boxes of other objects of any class, outside the explained one's / sum of h ->
    (B,) in [0, 1].

    Lower is better. As `leakage_to_class`. Where a class is explained, not one object, others are
    those of other classes.
    """
    others = [objects.boxes for objects in given(explanation.others, "others")]
    same = explanation.same_class or [boxes[:0] for boxes in others]
    return leakage(explanation, map(torch.cat, zip(others, same, strict=True)))
