"""Leakage of one object's map to others of its class, which CAMs of detectors are blamed for: Zhao
and Chan, ODAM, ICLR 2023, arXiv:2304.06354.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.regions import leakage


def leakage_to_class(explanation: Explanation) -> Tensor:
    """sum of h in boxes of other objects of the class, outside the explained one's / sum of h ->
    (B,) in [0, 1].

    Lower is better. A pixel lies in a box where its centre does; one in several boxes counts once,
    and one in the explained object's box doesn't count. Negative evidence is cut off by the
    heatmap's ReLU.
    """
    return leakage(explanation, given(explanation.same_class, "same_class"))
