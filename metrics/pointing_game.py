"""Pointing game: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016,
arXiv:1608.00507.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import millionths


def pointing_game(explanation: Explanation, tolerance: float = 15.0) -> Tensor:
    """1 where the map's highest pixel lies in or near a box of the class, else 0 -> (B,); the mean
    is the hit rate.

    The maximum is taken on the map rounded to 1e-6, ties to the first pixel in reading order. A box
    consists of the pixels whose centres lie in it. tolerance: a hit is also a pixel less than
    `tolerance` pixels of the stored photograph away from one of them, measured between centres, as
    in TorchRay, whatever size the network takes. Of an explanation without `stored_pixels` they are
    the heatmap's. 0: inside only. Rows without a box give NaN. Raises BenchError for a negative
    tolerance.
    """
    if not tolerance >= 0:
        raise BenchError(
            f"The tolerance of the pointing game is 0 pixels or more; it is {tolerance}."
        )
    levels = millionths(explanation)
    highest = torch.from_numpy(
        levels.reshape(len(levels), -1).argmax(1)
    )  # argmax returns the first of equals
    size = levels.shape[1:]
    points = torch.stack(torch.unravel_index(highest, size)[::-1], dim=1)  # (B, 2): x, y
    boxes = explanation.required_boxes
    stored = (explanation.stored_pixels if len(size) == 2 else None) or ((1.0,) * len(size),) * len(
        boxes
    )
    stored_pixels = torch.tensor(stored, dtype=torch.float64)
    count = torch.tensor([len(of_row) for of_row in boxes])
    row = torch.arange(len(boxes)).repeat_interleave(count)  # of each box
    edges = (
        torch.cat(boxes).double().cpu() - 0.5
    ).ceil()  # the first centre at an edge or beyond it; (n, 4)
    starts, ends = edges.chunk(2, 1)
    first = starts.clamp(min=0)
    last = torch.minimum(ends, torch.tensor(size[::-1])) - 1
    outside = torch.maximum(first - points[row], points[row] - last).clamp(min=0)
    distances = (outside / stored_pixels[row]).norm(dim=1)
    hits = ((distances == 0) | (distances < tolerance)) & (first <= last).all(1)
    return torch.where(
        count > 0, (torch.bincount(row[hits], minlength=len(boxes)) > 0).double(), torch.nan
    )
