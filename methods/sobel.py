"""Sobel edges, a control: Adebayo et al., Sanity Checks for Saliency Maps, NeurIPS 2018, arXiv:1810.03292."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map


def sobel(trace: Trace) -> Map:
    """sqrt((G * X)^2 + (G^T * X)^2), G Sobel's 3 x 3 kernel, X the mean over colours -> (B, H', W').

    The image's edges, which no network decides: a map that scores no better says nothing of the network. X: the image
    as the network takes it; at its border the nearest pixel is repeated.
    """
    grey = functional.pad(trace.images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(grey)
    edges = functional.conv2d(grey, torch.stack([across, across.T])[:, None])
    return Map(edges.square().sum(1).sqrt())
