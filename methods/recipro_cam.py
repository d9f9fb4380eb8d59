"""Recipro-CAM: Byun and Lee, Lightweight Gradient-free Class Activation Map, CVPR workshops 2024,
arXiv:2209.14074.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import unknown
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import class_scores, score_index

VECTORS = ("own", "centre")


def recipro_cam(
    trace: Trace, gaussian: bool = True, score: str = "probability", vectors: str = "own"
) -> Map:
    """R(y, x) = f(F G_yx), the score of F seen through a small window at each position -> (B, H,
    W).

    G_yx: (1/4, 1/8, 1/16) at (y, x), beside it and diagonally, 0 elsewhere, cut off at the border;
    gaussian=False keeps the single position, with weight 1. vectors: "own", each position in the
    window has its own feature vector; "centre", all have the one at (y, x), as in the authors'
    code. f: the class's probability; score="logit" takes the logit. Costs H W head passes. Raises
    BenchError for another score or other vectors.
    """
    if vectors not in VECTORS:
        raise unknown("vectors of Recipro-CAM", vectors, VECTORS)
    index = score_index(trace, score)
    with torch.inference_mode(False), torch.no_grad():
        windows = _windows(trace.activations, gaussian)
        scores = trace.per_image(lambda row: _scores(trace, row, windows, vectors)[:, index])
    return Map(scores.unflatten(1, trace.activations.shape[2:]))


def _windows(activations: Tensor, gaussian: bool) -> Tensor:
    """The window at each position: (H W, H, W)."""
    bands = (_bands(length, gaussian).to(activations) for length in activations.shape[2:])
    return reduce(torch.kron, bands).unflatten(1, activations.shape[2:])


def _bands(length: int, gaussian: bool) -> Tensor:
    """The window's factor along one side: 1/2 on the diagonal and 1/4 beside it, (length,
    length).
    """
    distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    if not gaussian:
        return (distance == 0).double()
    return torch.where(distance == 0, 0.5, torch.where(distance == 1, 0.25, 0.0)).double()


def _scores(trace: Trace, image: int, windows: Tensor, vectors: str) -> Tensor:
    """Logit and probability of the image's class for each window: (H W, 2)."""
    maps, target = trace.activations[image], int(trace.targets[image])
    parts = []
    for rows in pieces(len(windows), trace.cut_model.limits.head_rows_at_once(maps)):
        windowed = windows[rows, None] * (
            maps if vectors == "own" else over_space(maps.flatten(1).T[rows], trace.activations)
        )
        logits = trace.network.head_logits(windowed, torch.full((len(windowed),), image))
        parts.append(class_scores(trace, logits, target))
    return torch.cat(parts)
