"""HiResCAM: Draelos and Carin, 2020, arXiv:2011.08891.

Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace


def hires_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = g_k(x, y) -> (B, K, H, W).

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).

    Returns:
        The weights, (B, K, H, W).
    """
    return trace.gradients
