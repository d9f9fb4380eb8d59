"""Mass of the map on a spurious mark; after Adebayo et al., ICLR 2022, arXiv:2212.04629."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import mark_indices, parts_of, positive_masses


def mark_mass(explanation: Explanation) -> Tensor:
    """Compute sum of h on a spurious mark / sum of h.

    Neither high nor low is better: `mark_effect` shows whether the score depends on the mark. The
    heatmap's ReLU cuts off negative evidence.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and a trace with interventions.

    Returns:
        The shares, (B,) in [0, 1].

    Raises:
        BenchError: If the explanation has no interventions.
    """
    rows = zip(parts_of(explanation), positive_masses(explanation), strict=True)
    shares = []
    for parts, mass in rows:
        mass_on_marks = mass[mark_indices(parts)].sum()
        shares.append(mass_on_marks / mass.sum())
    return torch.stack(shares)
