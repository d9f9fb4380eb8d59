"""Noise smoothing: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017,
arXiv:1706.03825.
"""

from __future__ import annotations

from functools import reduce

import torch

from axiom_bench.cutting.numerics import noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import raw_map_of
from axiom_bench.methods.xgrad_cam import xgrad_cam


def smoothed(
    trace: Trace, wrapped: Method = xgrad_cam, samples: int = 25, sigma: float = 0.15, seed: int = 0
) -> Map:
    """Mean of the wrapped method's signed maps over noisy copies of the image -> (B, h, w).

    The noise is normal, its standard deviation `sigma` times the image's range (maximum - minimum),
    seeded by the original image and `seed`. All copies explain the image's class. Costs one trace
    per sample. Raises BenchError for samples < 1.
    """
    if samples < 1:
        raise BenchError(f"Invalid samples={samples}; give the number of noisy copies, at least 1.")
    draws = trace.generators(seed)
    maps = (
        raw_map_of(wrapped, trace.again(images=noisy(trace.images, sigma, draws)))
        for _ in range(samples)
    )
    return Map(reduce(torch.add, maps) / samples)
