"""IROF: Rieger and Hansen, IROF: a low resource evaluation metric for explanation methods, 2020,
arXiv:2003.08747.

Superpixels are those of SLIC, Achanta et al. 2012: k-means over colours and positions, from a grid.
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
from axiom_bench.metrics.shared.similarity import where_defined

ROUNDS = 10  # of k-means, as in the paper of SLIC


@takes_fields
def irof(
    explanation: Explanation,
    grid: int = 5,
    compactness: float = 10.0,
    filling: Filling = Filling("mean"),
) -> MetricGenerator[Tensor]:
    """1 - the area under p' / p as superpixels are filled one after the other, highest mean of the
    map first -> (B,).

    At most 1, higher is better. p: softmax probability of the class. grid: the superpixels start
    from a grid of grid^2 cells, see `shared.cells.cell_numbers`; compactness: see `superpixels`.
    The map is the signed raw map resized to the image. fill and blur: see
    `shared.perturbation.Filling`. Costs grid^2 passes for each method. NaN where the map is
    constant. Raises BenchError as `cell_numbers`.
    """
    trace = explanation.required_trace
    cells = cell_numbers(explanation, grid).cpu()
    images = explanation.required_images

    def of_images() -> Tensor:
        return trace.per_image(lambda row: superpixels(images[row].cpu(), cells, compactness)).to(
            images.device
        )

    parts = trace.once(("superpixels", grid, compactness), of_images)
    maps = enlarged(explanation)
    inside = [parts == number for number in range(grid**2)]
    sizes, sums = (
        torch.stack([each.where(part, 0.0).flatten(1).sum(1) for part in inside], dim=1)
        for each in (torch.ones_like(maps), maps)
    )
    keys = (scaled(sums / sizes.clamp(min=1)) * MILLION).round().nan_to_num(0, 0, 0)
    keys = keys.masked_fill(sizes == 0, -torch.inf)  # none is last
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
    return where_defined(value, explanation.required_raw_map, ratios)


def superpixels(image: Tensor, cells: Tensor, compactness: float) -> Tensor:
    """The number of the cell that each pixel's superpixel grew from: (3, H', W'), int64 (H', W') ->
    int64 (H', W').

    k-means of colours, where the image's range counts 100, and of positions, where the side of a
    cell counts `compactness`. A cell may lose all its pixels.
    """
    colours = image.double().nan_to_num(0, 0, 0).flatten(1).T.numpy()
    count = int(cells.max()) + 1
    side = (cells.numel() / count) ** (1 / max(1, sum(length > 1 for length in cells.shape)))
    positions = np.indices(cells.shape).reshape(cells.ndim, -1).T * (compactness / side)
    spread = float(np.ptp(colours))
    points = np.concatenate([colours * (100 / spread if spread > 0 else 0.0), positions], axis=1)
    labels = cells.flatten().numpy()
    centres = np.zeros((count, points.shape[1]))
    for _ in range(ROUNDS):
        sizes = np.bincount(labels, minlength=count)
        sums = np.stack([np.bincount(labels, column, count) for column in points.T], axis=1)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        labels = cKDTree(centres).query(points)[1]
    return torch.from_numpy(labels).view_as(cells)
