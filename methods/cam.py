"""CAM: Zhou et al., CVPR 2016, arXiv:1512.04150.

Learning Deep Features for Discriminative Localization.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def cam(trace: Trace) -> Tensor:
    """w_k = W_ck / (H W), W the linear layer after global average pooling -> (B, K, 1, 1).

    c is the target class. The division by H W puts the weights on the score's scale.

    Args:
        trace: The traced batch, with activations (B, K, H, W).

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If the head isn't global average pooling and one linear layer.
    """
    num_positions = trace.activations.shape[2:].numel()
    return over_space(trace.linear_head()[trace.targets] / num_positions, trace.activations)
