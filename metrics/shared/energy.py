"""How much of a map lies in the explained class's region."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import energy, own_energy


def share_inside(explanation: Explanation, region: str) -> Tensor:
    """sum of h inside the region / sum of h -> (B,) in [0, 1], in float64; NaN for a zero map.

    region: "boxes" or "masks", see `own_energy`.
    """
    return own_energy(explanation, region) / energy(explanation)
