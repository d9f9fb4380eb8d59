"""Sobel edges, a control: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018,
arXiv:1810.03292.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as functional

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map


def sobel(trace: Trace) -> Map:
    """sqrt((G * X)^2 + (G^T * X)^2), G Sobel's 3 x 3 kernel, X the mean over colours -> (B, H',
    W').

    The image's edges, which no network decides: a map that scores no better says nothing of the
    network. X: the image as the network takes it; at its border the nearest pixel is repeated. Of
    signals G is [-1, 0, 1], and volumes have a kernel for each of the three axes.
    """
    n = trace.images.ndim - 2
    grey = functional.pad(trace.images.mean(1, keepdim=True), (1, 1) * n, mode="replicate")
    smooth, step = (torch.tensor(sides).to(grey) for sides in ([1, 2, 1], [-1, 0, 1]))
    kernels = [
        reduce(torch.kron, [step if each == axis else smooth for each in range(n)])
        for axis in range(n)[::-1]
    ]
    edges = getattr(functional, f"conv{n}d")(grey, torch.stack(kernels).view(n, 1, *(3,) * n))
    return Map(edges.square().sum(1).sqrt())
