"""LayerCAM: Jiang et al., Exploring Hierarchical Class Activation Maps for Localization, IEEE TIP
2021.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.cutting.trace import Trace


def layer_cam(trace: Trace) -> Tensor:
    """w_k(x, y) = relu(g_k(x, y)) -> (B, K, H, W).

    The paper scales maps of shallow layers by tanh(2 M / max M) before adding them to deep ones;
    this is left out.
    """
    return trace.gradients.relu()
