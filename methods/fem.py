"""FEM: Fuad et al., Features Understanding in 3D CNNs for Actions Recognition in Video, IPTA
2020.
"""

from __future__ import annotations

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map


def fem(trace: Trace, deviations: float = 2.0) -> Map:
    """sum_k mean(F_k) [F_k > mean(F_k) + deviations std(F_k)], a channel's rare strong positions ->
    (B, H, W).

    It uses neither class nor gradient. The standard deviation is that of the H W values (divided by
    H W). pytorch-grad-cam's FEM weights F_k itself by the share of such positions.
    """
    F = trace.activations
    mean = F.mean(axes(F), keepdim=True)
    distance = F - mean
    threshold = deviations * distance.square().mean(axes(F), keepdim=True).sqrt()
    return Map((mean * (distance > threshold)).sum(1))
