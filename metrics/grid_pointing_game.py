"""Grid pointing game (GridPG) and Focus, on mosaics.

GridPG: Rao, Böhle and Schiele, CVPR 2022, arXiv:2205.10435. Focus: Arias-Duart et al., FUZZ-IEEE
2022, arXiv:2109.15035.
"""

from __future__ import annotations

from torch import Tensor

from axiom_bench.explanation.explanation import Explanation
from axiom_bench.metrics.shared.regions import share_inside


def grid_pointing_game(explanation: Explanation) -> Tensor:
    """sum of h inside the explained class's cells of a mosaic / sum of h -> (B,) in [0, 1]; higher
    is better.

    GridPG's localization score where the class has one cell, Focus where it has several: the share
    of the positive attribution. A constant map has the cells' share of the mosaic: 1/4 of 2 x 2,
    1/2 where two show the class. The heatmap is the raw map after ReLU and bilinear resize, as both
    papers score Grad-CAM; its scaling is no matter. Of a raw map with negative values GridPG's code
    resizes first and cuts at 0 then.
    """
    return share_inside(explanation, "cells")
