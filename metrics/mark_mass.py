"""Mass of the map on a spurious mark; after Adebayo et al., ICLR 2022, arXiv:2212.04629."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.parts import marks, parts_of, positive_masses


def mark_mass(explanation: Explanation) -> Tensor:
    """sum of h on a spurious mark / sum of h -> (B,) in [0, 1].

    Neither high nor low is better: `mark_effect` says whether the score depends on the mark.
    Negative evidence is cut off by the heatmap's ReLU. Raises BenchError for an explanation without
    interventions.
    """
    rows = zip(parts_of(explanation), positive_masses(explanation), strict=True)
    return torch.stack([mass[marks(parts)].sum() / mass.sum() for parts, mass in rows])
