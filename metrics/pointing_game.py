"""Pointing game: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, arXiv:1608.00507."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.rounding import millionths


def pointing_game(explanation: Explanation, tolerance: float = 0.0) -> Tensor:
    """1 where the map's highest pixel lies in a box of the class, else 0 -> (B,); the mean is the hit rate.

    The maximum is taken on the map rounded to 1e-6, ties to the first pixel in reading order. A pixel counts by its
    centre; tolerance: how many pixels it may lie outside of the box (15 in the paper). Rows without a box give NaN.
    Raises BenchError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise BenchError(f"The tolerance of the pointing game is 0 pixels or more; it is {tolerance}.")
    levels = millionths(explanation)
    highest = torch.from_numpy(levels.reshape(len(levels), -1).argmax(1))  # argmax names the first of equals
    width = levels.shape[2]
    points = torch.stack([highest % width, highest // width], dim=1).double() + 0.5  # (B, 2): x, y
    values = [
        _hit(point, boxes, tolerance) for point, boxes in zip(points, given(explanation.boxes, "boxes"), strict=True)
    ]
    return torch.tensor(values, dtype=torch.float64)


def _hit(point: Tensor, boxes: Tensor, tolerance: float) -> float:
    """Whether a point, x and y, is within tolerance of one of (n, 4) boxes; NaN where there is none."""
    if len(boxes) == 0:
        return float("nan")
    boxes = boxes.double().cpu()
    outside = torch.maximum(boxes[:, :2] - point, point - boxes[:, 2:]).clamp(min=0)  # (n, 2)
    return float((outside.norm(dim=1) <= tolerance).any())
