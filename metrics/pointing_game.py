"""Pointing game: Zhang et al., ECCV 2016, arXiv:1608.00507.

The paper is "Top-down Neural Attention by Excitation Backprop".
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import millionths


def pointing_game(explanation: Explanation, tolerance: float = 15.0) -> Tensor:
    """Return 1 if the map's highest pixel lies in or near a box of the class, otherwise 0.

    The mean is the hit rate. The maximum is taken on the map rounded to 1e-6; of equal pixels, the
    first in reading order counts. A box consists of the pixels whose centres lie in it.

    Args:
        explanation: The explanation, with its heatmap (B, H', W') and the class's boxes.
        tolerance: A pixel less than this distance from a box is a hit, too. The distance is between
            centres, in pixels of the stored photograph as in TorchRay, whatever size the network
            takes. Without `stored_pixels`, it is in the heatmap's pixels. 0 means only inside.

    Returns:
        1 or 0, (B,); higher is better. Rows without a box give NaN.

    Raises:
        BenchError: If the tolerance is negative.
    """
    if not tolerance >= 0:
        raise BenchError(
            f"The tolerance of the pointing game is 0 pixels or more; it is {tolerance}."
        )
    levels = millionths(explanation)
    # argmax returns the first of equal pixels.
    highest = torch.from_numpy(levels.reshape(len(levels), -1).argmax(1))
    size = levels.shape[1:]
    points = torch.stack(torch.unravel_index(highest, size)[::-1], dim=1)  # (B, 2): x, y
    boxes = explanation.required_boxes
    pixel_sizes = explanation.stored_pixels if len(size) == 2 else None
    pixel_sizes = pixel_sizes or ((1.0,) * len(size),) * len(boxes)
    stored_pixels = torch.tensor(pixel_sizes, dtype=torch.float64)
    count = torch.tensor([len(row_boxes) for row_boxes in boxes])
    row = torch.arange(len(boxes)).repeat_interleave(count)  # the row of each box
    # The number of the first centre at an edge or beyond it, (n, 4).
    edges = (torch.cat(boxes).double().cpu() - 0.5).ceil()
    starts, ends = edges.chunk(2, 1)
    first = starts.clamp(min=0)
    last = torch.minimum(ends, torch.tensor(size[::-1])) - 1
    outside = torch.maximum(first - points[row], points[row] - last).clamp(min=0)
    distances = (outside / stored_pixels[row]).norm(dim=1)
    hits = ((distances == 0) | (distances < tolerance)) & (first <= last).all(1)
    is_hit = torch.bincount(row[hits], minlength=len(boxes)) > 0
    return torch.where(count > 0, is_hit.double(), torch.nan)
