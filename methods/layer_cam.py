"""LayerCAM: Jiang et al., IEEE TIP 2021, doi:10.1109/TIP.2021.3089943.

LayerCAM: Exploring Hierarchical Class Activation Maps for Localization.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace


def layer_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = relu(g_k(x, y)) -> (B, K, H, W).

    The paper scales maps of shallow layers by tanh(2 M / max M) before adding them to deep ones;
    this is left out.

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).

    Returns:
        The weights, (B, K, H, W).
    """
    return trace.gradients.relu()
