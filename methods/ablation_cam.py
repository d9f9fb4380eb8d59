"""Ablation-CAM: Desai and Ramaswamy, WACV 2020.

Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization,
doi:10.1109/WACV45572.2020.9093360.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def ablation_cam(trace: Trace) -> Tensor:
    """w_k = (S - S_k) / S, S_k the score with map k set to zero -> (B, K, 1, 1).

    As in the paper, every sign flips if S < 0, and there are no weights (NaN) if S = 0.

    Args:
        trace: The traced batch, with scores S (B,) and ablation drops S - S_k (B, K).

    Returns:
        The weights, (B, K, 1, 1).
    """
    S = trace.scores[:, None]
    weights = trace.ablation_drops / S.masked_fill(S == 0, float("nan"))
    return over_space(weights, trace.activations)
