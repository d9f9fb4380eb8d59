"""Leakage of one object's map to all other objects.

The definition follows Zhao and Chan, ODAM, ICLR 2023, arXiv:2304.06354.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation, required_field
from axiom_bench.metrics.shared.regions import leakage


def leakage_to_others(explanation: Explanation) -> Tensor:
    """Compute sum of h in boxes of other objects of any class / sum of h.

    Pixels count as in `leakage_to_class`. If a class is explained, not one object, the other
    objects are those of other classes.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and all objects' boxes.

    Returns:
        The shares, (B,) in [0, 1]; lower is better.
    """
    others = [objects.boxes for objects in required_field(explanation.others, "others")]
    same = explanation.same_class or [boxes[:0] for boxes in others]
    return leakage(explanation, map(torch.cat, zip(others, same, strict=True)))
