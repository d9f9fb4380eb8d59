"""Recipro-CAM: Byun and Lee, CVPR workshops 2024, arXiv:2209.14074.

Recipro-CAM: Lightweight Gradient-free Class Activation Map for Post-hoc Explanations.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.passes import pieces
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import invalid_choice
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import class_scores, score_index

VECTORS = ("own", "centre")


def recipro_cam(
    trace: Trace, gaussian: bool = True, score: str = "probability", vectors: str = "own"
) -> Map:
    """R(y, x) = f(F G_yx), the score of F in a small window at each position -> (B, H, W).

    The window G_yx is 1/4 at (y, x), 1/8 next to it, 1/16 diagonally, and 0 elsewhere. It is cut
    off at the border. Costs H W head passes.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).
        gaussian: Use this window. False: keep the single position, with weight 1.
        score: f: "probability" or "logit".
        vectors: "own": each position in the window has its own feature vector. "centre": all have
            the one at (y, x), as in the authors' code.

    Returns:
        The map, (B, H, W).

    Raises:
        BenchError: If the score or `vectors` is unknown.
    """
    if vectors not in VECTORS:
        raise invalid_choice("vectors of Recipro-CAM", vectors, VECTORS)
    index = score_index(trace, score)
    with torch.inference_mode(False), torch.no_grad():
        windows = _windows(trace.activations, gaussian)
        # Image by image, so that no value depends on the rest of the batch.
        scores = trace.per_image(lambda row: _scores(trace, row, windows, vectors)[:, index])
    return Map(scores.unflatten(1, trace.activations.shape[2:]))


def _windows(activations: Tensor, gaussian: bool) -> Tensor:
    """Return the window at each position: (H W, H, W)."""
    bands = (_bands(length, gaussian).to(activations) for length in activations.shape[2:])
    masks: Tensor = reduce(torch.kron, bands).unflatten(1, activations.shape[2:])
    return masks


def _bands(length: int, gaussian: bool) -> Tensor:
    """Return the window's factor along one side, 1/2 on the diagonal and 1/4 next to it."""
    distance = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    if not gaussian:
        return (distance == 0).double()
    return torch.where(distance == 0, 0.5, torch.where(distance == 1, 0.25, 0.0)).double()


def _scores(trace: Trace, image: int, windows: Tensor, vectors: str) -> Tensor:
    """Return logit and probability of the image's class for each window: (H W, 2)."""
    maps = trace.activations[image]
    target = int(trace.targets[image])
    parts = []
    for rows in pieces(len(windows), trace.cut_model.limits.head_rows_at_once(maps)):
        features = maps
        if vectors == "centre":
            features = over_space(maps.flatten(1).T[rows], trace.activations)
        windowed = windows[rows, None] * features
        logits = trace.network.head_logits(windowed, torch.full((len(windowed),), image))
        parts.append(class_scores(trace, logits, target))
    return torch.cat(parts)
