"""Smooth Grad-CAM++: Omeiza et al., An Enhanced Inference Level Visualization Technique, 2019,
arXiv:1908.01224.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def smooth_grad_cam_pp(
    trace: Trace, samples: int = 25, sigma: float = 0.15, seed: int = 0
) -> Tensor:
    """w_k = sum(alpha relu(D1)), alpha = D2 / (2 D2 + D3 sum(F_k)), 0 for 0/0 -> (B, K, 1, 1).

    D1, D2 and D3 are the means of g_k, g_k^2 and g_k^3 over `samples` noisy copies of the image; F
    is the image's own. alpha's numerator is D2 as in Grad-CAM++, to which this reduces without
    noise; the paper prints D1. The noise is normal, its standard deviation `sigma` times the
    image's range, seeded by the original image and `seed`. Costs one trace per sample. Raises
    BenchError for samples < 1.
    """
    if samples < 1:
        raise BenchError(f"Invalid samples={samples}; give the number of noisy copies, at least 1.")
    D1, D2, D3, unit = _mean_powers(trace, samples, sigma, seed)
    denominator = 2 * D2 + D3 * (unit * trace.activations.sum(axes(D1), keepdim=True))
    alpha = torch.where(denominator == 0, 0, D2 / denominator)
    return unit * (alpha * D1.relu()).sum(axes(D1), keepdim=True)


def _mean_powers(
    trace: Trace, samples: int, sigma: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The means of g / unit and its second and third power, and the unit (B, 1, ...), the maximum
    of |g| per image.

    The unit prevents an underflow of g^3.
    """
    unit = trace.gradients.abs().amax(axes(trace.gradients, 1), keepdim=True)
    unit = unit.masked_fill(unit == 0, 1)
    first, second, third = (torch.zeros_like(trace.gradients) for _ in range(3))
    draws = trace.generators(seed)
    for _ in range(samples):
        g = trace.again(images=noisy(trace.images, sigma, draws)).gradients / unit
        first, second, third = first + g, second + g**2, third + g**3
    return first / samples, second / samples, third / samples, unit
