"""Pointing game: Zhang et al., Top-down Neural Attention by Excitation Backprop, ECCV 2016, arXiv:1608.00507."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation, given
from axiom_bench.metrics.shared.rounding import millionths


def pointing_game(explanation: Explanation, tolerance: float = 15.0) -> Tensor:
    """1 where the map's highest pixel lies in or near a box of the class, else 0 -> (B,); the mean is the hit rate.

    The maximum is taken on the map rounded to 1e-6, ties to the first pixel in reading order. A box consists of the
    pixels whose centres lie in it. tolerance: a hit is also a pixel less than `tolerance` pixels of the stored
    photograph away from one of them, measured between centres, as in TorchRay, whatever size the network takes; of an
    explanation without `stored_pixels` they are the heatmap's. 0: inside only. Rows without a box give NaN.
    Raises BenchError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise BenchError(f"The tolerance of the pointing game is 0 pixels or more; it is {tolerance}.")
    levels = millionths(explanation)
    highest = torch.from_numpy(levels.reshape(len(levels), -1).argmax(1))  # argmax returns the first of equals
    height, width = levels.shape[1:]
    points = torch.stack([highest % width, highest // width], dim=1)  # (B, 2): x, y
    size = torch.tensor([width, height])
    boxes = given(explanation.boxes, "boxes")
    stored_pixels = explanation.stored_pixels or ((1.0, 1.0),) * len(boxes)
    rows = zip(points, boxes, stored_pixels, strict=True)
    values = [
        _hit(point, of_row, size, tolerance, torch.tensor(pixel, dtype=torch.float64)) for point, of_row, pixel in rows
    ]
    return torch.tensor(values, dtype=torch.float64)


def _hit(point: Tensor, boxes: Tensor, size: Tensor, tolerance: float, stored_pixel: Tensor) -> float:
    """Whether a pixel, x and y, is within tolerance of the pixels of one of (n, 4) boxes; NaN where there is none.

    stored_pixel: its width and height, the unit of the tolerance.
    """
    if len(boxes) == 0:
        return float("nan")
    edges = (boxes.double().cpu() - 0.5).ceil()  # the first centre at an edge or beyond it
    first, last = edges[:, :2].clamp(min=0), torch.minimum(edges[:, 2:], size) - 1  # (n, 2) each
    distances = (torch.maximum(first - point, point - last).clamp(min=0) / stored_pixel).norm(dim=1)
    hits = (distances == 0) | (distances < tolerance)
    return float((hits & (first <= last).all(1)).any())
