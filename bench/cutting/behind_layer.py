"""Find out what follows the target layer, since some methods draw the same map behind pooling."""

from __future__ import annotations

import torch

from axiom_bench.cutting.numerics import axes
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError

POOLING = "global average pooling follows"
LINEAR = "only global average pooling and one linear layer follow"
TOLERANCE = 1e-5  # relative; equal gradients differ by less, because of rounding


def what_follows(trace: Trace) -> str:
    """Return POOLING or LINEAR if this follows the layer, otherwise "".

    If pooling follows, the gradients of a channel are the same at each position, so that all
    methods that weigh gradients by activations draw the same map.

    Args:
        trace: The traced batch.
    """
    gradients = trace.gradients
    means = gradients.mean(axes(gradients), keepdim=True)
    largest = gradients.abs().max()
    is_constant = bool((gradients - means).abs().max() <= TOLERANCE * largest)
    has_several_positions = gradients[0, 0].numel() > 1
    if not has_several_positions or not is_constant or not torch.is_nonzero(largest):
        return ""
    try:
        trace.linear_head()
    except BenchError:
        return POOLING
    return LINEAR
