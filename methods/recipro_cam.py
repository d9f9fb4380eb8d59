"""Recipro-CAM: Byun and Lee, Lightweight Gradient-free Class Activation Map, CVPR workshops 2024, arXiv:2209.14074."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.masking import chunks, column, of_class


def recipro_cam(trace: Trace, gaussian: bool = True, score: str = "probability") -> Map:
    """R(y, x) = f(F G_yx): what the head says of the layer seen through a small window at each position -> (B, H, W).

    G_yx: (1/4, 1/8, 1/16) at (y, x), beside it and across it, 0 elsewhere, cut off at the border; gaussian=False lets
    the one position through, unweighted. f: the class's probability, as in the authors' code; score="logit" takes the
    logit. Costs H W head passes. Raises BenchError for another score.
    """
    with torch.inference_mode(False), torch.no_grad():
        windows = _windows(trace.activations, gaussian)
        raw = [_of_image(trace, i, windows, column(score)) for i in range(trace.distinct)]
    return Map(trace.with_repeats(torch.stack(raw)).unflatten(1, trace.activations.shape[2:]))


def _windows(activations: Tensor, gaussian: bool) -> Tensor:
    """(H W, H, W): a window at each position in turn."""
    height, width = activations.shape[2:]
    rows, columns = (_bands(length, gaussian).to(activations) for length in (height, width))
    return torch.einsum("ay,bx->abyx", rows, columns).flatten(0, 1)


def _bands(length: int, gaussian: bool) -> Tensor:
    """(length, length): 1/2 on the diagonal and 1/4 beside it, whose products are 1/4, 1/8 and 1/16."""
    distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    if not gaussian:
        return (distance == 0).double()
    return torch.where(distance == 0, 0.5, torch.where(distance == 1, 0.25, 0.0)).double()


def _of_image(trace: Trace, image: int, windows: Tensor, column: int) -> Tensor:
    """(H W,) scores of one image."""
    maps, target = trace.activations[image], int(trace.targets[image])
    parts = []
    for rows in chunks(trace, len(windows), maps):
        seen = windows[rows, None] * maps
        logits = trace.head_logits(seen, torch.full((len(seen),), image))
        parts.append(of_class(trace, logits, target)[:, column])
    return torch.cat(parts)
