"""A method's map where the score depends on the layer at all: what CAMs of detectors show elsewhere
is of other objects.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.shared.wrapping import answer_of


def restricted(trace: Trace, wrapped: Method = grad_cam) -> Tensor | Map:
    """w of the wrapped method, or its map, where any g_k(x, y) isn't 0, and 0 elsewhere -> (B, K,
    H, W) or (B, h, w).

    For one object's score that is the layer's part that its position or region reads. It changes
    nothing where the score reads the whole layer, as a classifier's does.
    """
    read = (trace.gradients != 0).any(1, keepdim=True).to(trace.activations)
    answer = answer_of(wrapped, trace)
    if isinstance(answer, Map):
        return Map(
            answer.raw
            * functional.interpolate(read, size=answer.raw.shape[1:], mode="nearest-exact")[:, 0]
        )
    return answer.reshape(*answer.shape, *(1 for _ in read.shape[answer.ndim :])) * read
