"""Mass where nothing contributes, by contributions known by construction.

The metric is this project's; see docs/studies/planted.md. DiFull of Rao et al., CVPR 2022,
arXiv:2205.10435, asks the same of networks that can't see a part of the image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.true_maps import true_heatmap

NOTHING = 1e-6  # as a share of a heatmap's maximum: what rounding leaves of a contribution of 0


def truth_mass_outside(explanation: Explanation) -> Tensor:
    """Compute sum of h where the truth's heatmap is zero / sum of h.

    The truth's heatmap is positive evidence, resized as h is. A right map therefore has no mass
    outside of it.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and a trace with the truth.

    Returns:
        The shares, (B,) in [0, 1]; 0 is best.
    """
    shown = explanation.required_heatmap.double()
    truth = true_heatmap(explanation)
    outside = (truth <= NOTHING).double().masked_fill(truth.isnan(), torch.nan)
    space = axes(shown, 1)
    return (shown * outside).sum(space) / shown.sum(space)
