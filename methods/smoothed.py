"""Noise smoothing of any method: Smilkov et al., SmoothGrad, 2017, arXiv:1706.03825."""

from __future__ import annotations

from functools import reduce

import torch

from axiom_bench.cutting.numerics import noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import wrapped_raw_map
from axiom_bench.methods.xgrad_cam import xgrad_cam


def smoothed(
    trace: Trace, wrapped: Method = xgrad_cam, samples: int = 25, sigma: float = 0.15, seed: int = 0
) -> Map:
    """Mean of the wrapped method's signed maps over noisy copies of the image -> (B, h, w).

    The noise is normal, and seeded by the original image and `seed`. All copies explain the image's
    class. Costs one trace per sample.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        wrapped: The method whose maps are averaged.
        samples: The number of noisy copies, at least 1.
        sigma: The standard deviation of the noise, as a share of the image's range (maximum -
            minimum).
        seed: The seed of the noise.

    Returns:
        The map, (B, h, w).

    Raises:
        BenchError: If samples < 1.
    """
    if samples < 1:
        raise InvalidParameter(
            f"Invalid samples={samples}; give the number of noisy copies, at least 1."
        )
    generators = trace.generators(seed)
    # A generator, so that only one copy's trace is in memory at a time.
    copies = (noisy(trace.images, sigma, generators) for _ in range(samples))
    maps = (wrapped_raw_map(wrapped, trace.again(images=images)) for images in copies)
    return Map(reduce(torch.add, maps) / samples)
