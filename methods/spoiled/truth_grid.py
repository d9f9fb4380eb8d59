"""The right explanation at the layer's own resolution.

It is as sharp as a method that weights channels can be.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.true_map import true_map
from axiom_bench.methods.spoiled.truth import truth


def truth_grid(trace: Trace) -> Tensor | Map:
    """Mean of the true map over each of the layer's cells -> (B, H, W).

    The contributions of a network that reports them are at the layer's resolution already, and are
    returned as `truth` returns them.

    Args:
        trace: The traced batch of a network or images whose truth is known.

    Returns:
        A map, (B, H, W), or weights, (B, K, H, W).

    Raises:
        BenchError: If the truth isn't known.
    """
    if trace.true_contributions is not None:
        return truth(trace)
    height, width = trace.activations.shape[-2:]
    return Map(adaptive_avg_pool2d(true_map(trace)[:, None], (height, width))[:, 0])
