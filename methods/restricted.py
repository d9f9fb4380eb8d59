"""A method's map, set to 0 where the score doesn't depend on the layer.

At such positions, CAMs of detectors show other objects.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.shared.wrapping import run_wrapped


def restricted(trace: Trace, wrapped: Method = grad_cam) -> Tensor | Map:
    """w_k(x, y) or map of the wrapped method where any g_k isn't 0 -> (B, K, H, W) or (B, h, w).

    Elsewhere the result is 0. For one object's score, this keeps the layer's part that its position
    or region reads. It changes nothing if the score reads the whole layer, as a classifier's does.

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).
        wrapped: The method to restrict.

    Returns:
        Weights, (B, K, H, W), or a map, (B, h, w), like the wrapped method.
    """
    is_read = (trace.gradients != 0).any(1, keepdim=True).to(trace.activations)
    answer = run_wrapped(wrapped, trace)
    if isinstance(answer, Map):
        size = answer.raw.shape[1:]
        return Map(
            answer.raw * functional.interpolate(is_read, size=size, mode="nearest-exact")[:, 0]
        )
    # weights may have fewer dimensions than the gradients
    return answer.reshape(*answer.shape, *(1 for _ in is_read.shape[answer.ndim :])) * is_read
