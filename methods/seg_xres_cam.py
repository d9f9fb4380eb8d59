"""Seg-XRes-CAM: Hasany, Petitjean and Mériaudeau, CVPR workshops 2023.

Seg-XRes-CAM: Explaining Spatially Local Regions in Image Segmentation.
"""

from __future__ import annotations

import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter, invalid_choice

POOLINGS = {"mean": "avg", "max": "max"}


def seg_xres_cam(trace: Trace, window: int = 2, pooling: str = "mean") -> Tensor:
    """w_k = Up(Pool(g_k)), pooled over small windows and repeated -> (B, K, H, W).

    This is Equation 5, with S the class's sum over a region. As in the authors' code, windows that
    stick out are filled up with zeros, and Up takes the nearest value. No window is longer than its
    side. With a window of 1 the method is HiResCAM, Equation 4; with the mean over the whole map it
    is Grad-CAM, Equation 3.

    Args:
        trace: The traced batch, with gradients g (B, K, H, W).
        window: The side of the windows in positions, at least 1.
        pooling: "mean" or "max".

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If window < 1 or the pooling is unknown.
    """
    if window < 1:
        raise InvalidParameter(
            f"Invalid window={window}; give the side of the pooled windows in positions, at least "
            "1."
        )
    if pooling not in POOLINGS:
        raise invalid_choice("pooling", pooling, POOLINGS)
    space = trace.gradients.shape[2:]
    windows = [min(window, side) for side in space]
    # torch's padding has a start and an end per axis, the last axis first
    padding: list[int] = []
    for side, length in reversed([*zip(space, windows, strict=True)]):
        padding += [0, -side % length]
    pool = getattr(functional, f"{POOLINGS[pooling]}_pool{len(space)}d")
    pooled: Tensor = pool(functional.pad(trace.gradients, padding), windows)
    return functional.interpolate(pooled, size=tuple(space), mode="nearest-exact")
