"""CAM: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016,
arXiv:1512.04150.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace


def cam(trace: Trace) -> Tensor:
    """w_k = W_ck / (H W), W the linear layer after global average pooling, c the target -> (B, K,
    1, 1).

    The division by H W puts it on the score's scale. Raises BenchError for any other head.
    """
    positions = trace.activations.shape[2:].numel()
    return over_space(trace.linear_head()[trace.targets] / positions, trace.activations)
