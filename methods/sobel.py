"""Sobel edges, a control: Adebayo et al., NeurIPS 2018, arXiv:1810.03292.

Sanity Checks for Saliency Maps.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as functional

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map


def sobel(trace: Trace) -> Map:
    """sqrt((G * X)^2 + (G^T * X)^2), G Sobel's 3 x 3 kernel, X the grey image -> (B, H', W').

    These are the image's edges, which no network decides. A map that scores no better says nothing
    about the network. X is the mean over colours of the image as the network takes it; at its
    border the nearest pixel is repeated. Signals have G = [-1, 0, 1], and volumes a kernel for each
    of the three axes.

    Args:
        trace: The traced batch, with images (B, 3, H', W').

    Returns:
        The map, (B, H', W').
    """
    n = trace.images.ndim - 2
    grey = functional.pad(trace.images.mean(1, keepdim=True), (1, 1) * n, mode="replicate")
    smooth = torch.tensor([1, 2, 1]).to(grey)
    step = torch.tensor([-1, 0, 1]).to(grey)
    kernels = []
    for step_axis in range(n)[::-1]:
        factors = [step if axis == step_axis else smooth for axis in range(n)]
        kernels.append(reduce(torch.kron, factors))
    convolve = getattr(functional, f"conv{n}d")
    edges = convolve(grey, torch.stack(kernels).view(n, 1, *(3,) * n))
    return Map(edges.square().sum(1).sqrt())
