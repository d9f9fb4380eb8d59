"""Ablation-CAM of the top channels: Desai and Ramaswamy, WACV 2020.

The channels are chosen as in Faster Score-CAM.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.methods.ablation_cam import ablation_cam
from axiom_bench.methods.shared.masking import top_channels


def ablation_cam_top(trace: Trace, top: int = 10, ranking: str = "variance") -> Tensor:
    """w_k = (S - S_k) / S for the channels of largest variance, 0 for others -> (B, K, 1, 1).

    pytorch-grad-cam ranks channels by their projection on the first principal component. This
    method saves no time, since the drops of all channels are computed at once.

    Args:
        trace: The traced batch, with scores S (B,) and ablation drops S - S_k (B, K).
        top: The number of channels with a weight, at least 1.
        ranking: "variance" or "mean" of F_k over positions, as in `score_cam_top`.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the ranking is unknown or top < 1.
    """
    channels = top_channels(trace.activations, top, ranking)
    return ablation_cam(trace).masked_fill(~over_space(channels, trace.activations), 0)
