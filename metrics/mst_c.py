"""MST-C, minimum spanning tree compactness: Mesgari et al., 2026, arXiv:2603.29491.

The paper is "Structural Compactness as a Complementary Criterion for Explanation Quality".
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial import ConvexHull, KDTree
from torch import Tensor

from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.rounding import millionths

SCALE = 100  # as in the authors' code
TIE = 1e-9  # pixels: distances on the grid that differ are further apart


def mst_c(explanation: Explanation, percentile: float = 80.0, neighbours: int = 20) -> Tensor:
    """Compute 100 D / sqrt(A) |V| / L of the highest pixels V, with hull area A and tree length L.

    V are the pixels from the percentile on. D is the image's diagonal. A is the area of V's convex
    hull, whose corners are the centres of pixels. L is the length of the minimum spanning forest of
    the graph that links each pixel of V to its nearest neighbours in V. All neighbours at the same
    distance count. If all pixels of V lie on one line, D replaces sqrt(A).

    Args:
        explanation: The explanation, with its heatmap (B, H', W').
        percentile: The percentile of the heatmap's pixels, from 0 to below 100.
        neighbours: The number of nearest neighbours, 1 or more.

    Returns:
        The values, (B,); a higher value is more compact. They are NaN if V is a single pixel.

    Raises:
        BenchError: If the percentile isn't in [0, 100), or there are no neighbours.
    """
    if not 0 <= percentile < 100:
        raise BenchError(f"mst_c needs a percentile from 0 to below 100, not {percentile}.")
    if neighbours < 1:
        raise BenchError(f"mst_c needs one neighbour or more, not neighbours={neighbours}.")
    values = []
    for levels in millionths(explanation):
        points = np.argwhere(levels >= np.percentile(levels, percentile)).astype(float)
        values.append(_compactness(points, neighbours, float(np.hypot(*levels.shape))))
    return torch.tensor(values, dtype=torch.float64)


def _compactness(points: NDArray[np.float64], neighbours: int, diagonal: float) -> float:
    """Return the value of the points (n, 2), NaN for a single one."""
    if len(points) < 2:
        return np.nan
    root_area = diagonal
    if np.linalg.matrix_rank(points - points[0]) == 2:
        root_area = np.sqrt(ConvexHull(points).volume)  # SciPy calls the perimeter `area`
    length = minimum_spanning_tree(_neighbour_graph(points, neighbours)).sum()
    return float(SCALE * diagonal / root_area * len(points) / length)


def _neighbour_graph(points: NDArray[np.float64], neighbours: int) -> csr_array:
    """Return the distances (n, n) from each point to its nearest neighbours."""
    tree = KDTree(points)
    count = min(neighbours, len(points) - 1) + 1  # a point is its own first neighbour
    nearest, _ = tree.query(points, count)
    linked = tree.query_ball_point(points, nearest[:, -1] + TIE)
    ends = np.concatenate(linked).astype(int)
    starts = np.repeat(np.arange(len(points)), list(map(len, linked)))
    distances = np.linalg.norm(points[starts] - points[ends], axis=1)
    return csr_array((distances, (starts, ends)), shape=(len(points), len(points)))
