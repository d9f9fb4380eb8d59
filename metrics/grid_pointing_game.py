"""Grid pointing game (GridPG) and Focus, on mosaics.

GridPG: Rao, Böhle and Schiele, CVPR 2022, arXiv:2205.10435. Focus: Arias-Duart et al., FUZZ-IEEE
2022, arXiv:2109.15035.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside


def grid_pointing_game(explanation: Explanation) -> Tensor:
    """Compute sum of h inside the explained class's cells of a mosaic / sum of h.

    If the class has one cell, the value is GridPG's localization score. If the class has several
    cells, it is Focus, the share of the positive attribution. A constant map has the cells' share
    of the mosaic: 1/4 of 2 x 2, or 1/2 if two cells show the class. The heatmap is the raw map
    after ReLU and bilinear resize, as both papers score Grad-CAM; its scaling doesn't matter. For a
    raw map with negative values, GridPG's code resizes first and then cuts at 0.

    Args:
        explanation: The explanation, with its heatmap h (B, H', W') and the class's cells.

    Returns:
        The shares, (B,) in [0, 1]; higher is better.
    """
    return share_inside(explanation, "cells")
