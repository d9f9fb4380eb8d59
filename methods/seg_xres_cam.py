"""Seg-XRes-CAM: Hasany, Petitjean and Mériaudeau, Explaining Spatially Local Regions in Image
Segmentation, CVPR workshops 2023.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, unknown

POOLINGS = {"mean": "avg", "max": "max"}


def seg_xres_cam(trace: Trace, window: int = 2, pooling: str = "mean") -> Tensor:
    """w_k = Up(Pool(g_k)), pooled over windows of `window` positions a side and repeated -> (B, K,
    H, W).

    Equation 5, with S the class's sum over a region. pooling: "mean" or "max". As in the authors'
    code, zeros fill up windows that stick out, and Up takes the nearest; no window is longer than
    its side. With a window of 1 it is HiResCAM, Equation 4; with the mean over the whole map it is
    Grad-CAM, Equation 3. Raises BenchError for window < 1 and another pooling.
    """
    if window < 1:
        raise BenchError(
            f"Invalid window={window}; give the side of the pooled windows in positions, at least "
            "1."
        )
    if pooling not in POOLINGS:
        raise unknown("pooling", pooling, POOLINGS)
    space = trace.gradients.shape[2:]
    windows = [min(window, side) for side in space]
    missing = [end for side, each in zip(space, windows, strict=True) for end in (-side % each, 0)][
        ::-1
    ]
    pool = getattr(functional, f"{POOLINGS[pooling]}_pool{len(space)}d")
    pooled: Tensor = pool(functional.pad(trace.gradients, missing), windows)
    return functional.interpolate(pooled, size=tuple(space), mode="nearest-exact")
