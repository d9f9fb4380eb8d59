"""How much of a map lies in the explained class's region."""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import energy, energy_in, own_energy


def share_inside(explanation: Explanation, region: str) -> Tensor:
    """sum of h inside the region / sum of h -> (B,) in [0, 1], in float64; NaN for a zero map.

    region: "boxes", "cells" or "masks", see `own_energy`. With masks, pixels without a verdict are left out of
    both sums.
    """
    total = energy(explanation)
    if region == "masks" and explanation.ignored is not None:
        total = total - energy_in(explanation, explanation.ignored)
    return own_energy(explanation, region) / total
