"""SmoothGrad: Smilkov et al., SmoothGrad: removing noise by adding noise, 2017,
arXiv:1706.03825.
"""

from __future__ import annotations

from functools import reduce

import torch

from axiom_bench.cutting.numerics import noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.saliency import gradient_at


def smooth_grad(trace: Trace, samples: int = 25, sigma: float = 0.15, seed: int = 0) -> Map:
    """max over colours of |mean over samples of dS/dX at X + n|, at the image's size -> (B, H',
    W').

    n: normal noise, its standard deviation `sigma` times the image's range, seeded by the original
    image and `seed`. The mean is that of the signed gradients. The layer isn't used. Costs one
    forward and backward pass per sample. Raises BenchError for samples < 1 and a negative sigma.
    """
    if samples < 1:
        raise BenchError(f"Invalid samples={samples}; give the number of noisy copies, at least 1.")
    draws = trace.generators(seed)
    gradients = (gradient_at(trace, noisy(trace.images, sigma, draws)) for _ in range(samples))
    return Map((reduce(torch.add, gradients) / samples).abs().amax(1))
