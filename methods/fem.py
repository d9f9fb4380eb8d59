"""FEM: Fuad et al., Features Understanding in 3D CNNs for Actions Recognition in Video, 2020.

IPTA 2020, doi:10.1109/IPTA50016.2020.9286629.
"""

from __future__ import annotations

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map


def fem(trace: Trace, deviations: float = 2.0) -> Map:
    """sum_k mean(F_k) [F_k > mean(F_k) + deviations std(F_k)] -> (B, H, W).

    The map counts a channel's rare strong positions, and uses neither class nor gradient. The
    standard deviation is that of the H W values (divided by H W). pytorch-grad-cam's FEM weights
    F_k itself by the share of such positions.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).
        deviations: The threshold, in standard deviations above the mean.

    Returns:
        The map, (B, H, W).
    """
    F = trace.activations
    mean = F.mean(axes(F), keepdim=True)
    distance = F - mean
    threshold = deviations * distance.square().mean(axes(F), keepdim=True).sqrt()
    return Map((mean * (distance > threshold)).sum(1))
