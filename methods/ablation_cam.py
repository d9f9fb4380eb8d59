"""Ablation-CAM: Desai and Ramaswamy, Visual Explanations via Gradient-free Localization, WACV
2020.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def ablation_cam(trace: Trace) -> Tensor:
    """w_k = (S - S_k) / S, S_k the score with map k set to zero -> (B, K, 1, 1).

    As published: where S < 0 every sign flips, and where S = 0 there are no weights (NaN).
    """
    S = trace.scores[:, None]
    weights = trace.ablation_drops / S.masked_fill(S == 0, float("nan"))
    return over_space(weights, trace.activations)
