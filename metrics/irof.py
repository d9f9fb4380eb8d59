"""IROF: Rieger and Hansen, 2020, arXiv:2003.08747.

The paper is "IROF: a low resource evaluation metric for explanation methods". Superpixels are those
of SLIC, Achanta et al. 2012: k-means over colours and positions, starting from a grid.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from axiom_bench.evaluation.queries import MetricGenerator
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.cells import cell_numbers, enlarged
from axiom_bench.metrics.shared.perturbation import Filling, Perturbation, takes_fields
from axiom_bench.metrics.shared.pixel_curves import area, partly_filled
from axiom_bench.metrics.shared.pixel_order import ranks_of
from axiom_bench.metrics.shared.rounding import MILLION, scaled
from axiom_bench.metrics.shared.similarity import mask_undefined

ROUNDS = 10  # of k-means, as in the paper of SLIC


@takes_fields
def irof(
    explanation: Explanation,
    grid: int = 5,
    compactness: float = 10.0,
    filling: Filling = Filling("mean"),
) -> MetricGenerator[Tensor]:
    """Compute 1 - the area under p' / p as superpixels are filled, highest mean first.

    p is the softmax probability of the class. Superpixels are filled one after the other, in the
    order of the map's mean. The map is the signed raw map resized to the image. The metric costs
    grid^2 passes for each method.

    Args:
        explanation: The explanation, with its raw map (B, h, w) and its trace.
        grid: The superpixels start from a grid of grid^2 cells; see `shared.cells.cell_numbers`.
        compactness: The weight of positions against colours; see `superpixels`.
        filling: The replacement; see `shared.perturbation.Filling`.

    Returns:
        The values, (B,), at most 1; higher is better. They are NaN if the map is constant.

    Raises:
        BenchError: If the images can't have this grid; see `shared.cells.cell_numbers`.
    """
    trace = explanation.required_trace
    cells = cell_numbers(explanation, grid).cpu()
    images = explanation.required_images

    def image_parts() -> Tensor:
        numbers = trace.per_image(lambda row: superpixels(images[row].cpu(), cells, compactness))
        return numbers.to(images.device)

    parts = trace.once(("superpixels", grid, compactness), image_parts)
    maps = enlarged(explanation)
    ones = torch.ones_like(maps)
    part_sizes = []
    part_sums = []
    for number in range(grid**2):
        is_inside = parts == number
        part_sizes.append(ones.where(is_inside, 0.0).flatten(1).sum(1))
        part_sums.append(maps.where(is_inside, 0.0).flatten(1).sum(1))
    sizes = torch.stack(part_sizes, dim=1)
    sums = torch.stack(part_sums, dim=1)
    means = sums / sizes.clamp(min=1)
    keys = (scaled(means) * MILLION).round().nan_to_num(0, 0, 0)
    keys = keys.masked_fill(sizes == 0, -torch.inf)  # superpixels without a pixel come last
    ranks = ranks_of(keys, "highest").gather(1, parts.flatten(1)).view_as(parts)
    key = ("irof", grid, compactness)
    counts = torch.arange(1, grid**2 + 1)
    perturbation = Perturbation(filling.fill, filling.blur)
    scores = yield partly_filled(explanation, key, ranks, counts, perturbation, inserts=False)
    before = perturbation.image_confidence(explanation)
    count = (sizes > 0).sum(1)
    ratios = torch.cat([before, scores], dim=1) / before
    surplus = (grid**2 - count) * ratios[:, -1]  # steps after the last superpixel change nothing
    value = 1 - (area(ratios) * grid**2 - surplus) / count
    return mask_undefined(value, explanation.required_raw_map, ratios)


def superpixels(image: Tensor, cells: Tensor, compactness: float) -> Tensor:
    """Return the number of the cell that each pixel's superpixel grew from.

    The superpixels are found by k-means of colours and positions. A cell may lose all its pixels.

    Args:
        image: The image, (3, H', W'). Its range of colours counts 100.
        cells: The number of each pixel's cell, int64 (H', W').
        compactness: The weight of the side of a cell.

    Returns:
        The numbers, int64 (H', W').
    """
    colours = image.double().nan_to_num(0, 0, 0).flatten(1).T.numpy()
    count = int(cells.max()) + 1
    num_axes = max(1, sum(length > 1 for length in cells.shape))
    side = (cells.numel() / count) ** (1 / num_axes)
    positions = np.indices(cells.shape).reshape(cells.ndim, -1).T * (compactness / side)
    spread = float(np.ptp(colours))
    points = np.concatenate([colours * (100 / spread if spread > 0 else 0.0), positions], axis=1)
    labels = cells.flatten().numpy()
    centres = np.zeros((count, points.shape[1]))
    for _ in range(ROUNDS):
        sizes = np.bincount(labels, minlength=count)
        sums = np.stack([np.bincount(labels, column, count) for column in points.T], axis=1)
        # A cell that has lost all its pixels keeps its centre, and may win pixels back.
        means = sums / np.maximum(sizes, 1)[:, None]
        centres = np.where(sizes[:, None] > 0, means, centres)
        labels = cKDTree(centres).query(points)[1]
    return torch.from_numpy(labels).view_as(cells)
