"""SmoothGrad: Smilkov et al., Removing noise by adding noise, 2017, arXiv:1706.03825."""

from __future__ import annotations

from functools import reduce

import torch

from axiom_bench.cutting.numerics import noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.saliency import gradient_at


def smooth_grad(trace: Trace, samples: int = 25, sigma: float = 0.15, seed: int = 0) -> Map:
    """Maximum over colours of |mean over noise n of dS/dX at X + n| -> (B, H', W').

    The noise is normal, and seeded by the original image and `seed`. The mean is that of the signed
    gradients, and the map has the image's size. The layer isn't used. Costs one forward and
    backward pass per sample.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').
        samples: The number of noisy copies, at least 1.
        sigma: The standard deviation of the noise, as a share of the image's range, at least 0.
        seed: The seed of the noise.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If samples < 1 or sigma is negative.
    """
    if samples < 1:
        raise InvalidParameter(
            f"Invalid samples={samples}; give the number of noisy copies, at least 1."
        )
    generators = trace.generators(seed)
    gradients = (gradient_at(trace, noisy(trace.images, sigma, generators)) for _ in range(samples))
    return Map((reduce(torch.add, gradients) / samples).abs().amax(1))
