"""Ablation-CAM on the score's scale: Fu et al., BMVC 2020, arXiv:2008.02312.

The weights solve the sensitivity axiom.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import guarded_divide
from axiom_bench.cutting.trace import Trace


def ablation_cam_axiomatic(trace: Trace) -> Tensor:
    """w_k = (S - S_k) / sum(F_k), S_k the score with map k set to zero -> (B, K, 1, 1).

    Args:
        trace: The traced batch, with ablation drops S - S_k (B, K).

    Returns:
        The weights, (B, K, 1, 1).
    """
    return guarded_divide(trace.ablation_drops, trace.activations)
