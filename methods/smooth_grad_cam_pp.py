"""Smooth Grad-CAM++: Omeiza et al., 2019, arXiv:1908.01224.

Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for Deep Convolutional
Neural Network Models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import axes, noisy
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter


def smooth_grad_cam_pp(
    trace: Trace, samples: int = 25, sigma: float = 0.15, seed: int = 0
) -> Tensor:
    """w_k = sum(alpha relu(D1)), alpha = D2 / (2 D2 + D3 sum(F_k)), 0 for 0/0 -> (B, K, 1, 1).

    D1, D2 and D3 are the means of g_k, g_k^2 and g_k^3 over noisy copies of the image, and F is
    the image's own. alpha's numerator is D2 as in Grad-CAM++, to which the method reduces without
    noise; the paper prints D1. The noise is normal, and seeded by the original image and `seed`.
    Costs one trace per sample.

    Args:
        trace: The traced batch, with activations F and gradients g, (B, K, H, W) each.
        samples: The number of noisy copies, at least 1.
        sigma: The standard deviation of the noise, as a share of the image's range.
        seed: The seed of the noise.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If samples < 1.
    """
    if samples < 1:
        raise InvalidParameter(
            f"Invalid samples={samples}; give the number of noisy copies, at least 1."
        )
    # The powers are of g / unit, so that g^3 doesn't underflow; alpha doesn't depend on the unit.
    D1, D2, D3, unit = _mean_powers(trace, samples, sigma, seed)
    denominator = 2 * D2 + D3 * (unit * trace.activations.sum(axes(D1), keepdim=True))
    alpha = torch.where(denominator == 0, 0, D2 / denominator)
    return unit * (alpha * D1.relu()).sum(axes(D1), keepdim=True)


def _mean_powers(
    trace: Trace, samples: int, sigma: float, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the means of the first three powers of g / unit, and the unit (B, 1, ...).

    The unit is the maximum of |g| per image. It prevents an underflow of g^3.
    """
    unit = trace.gradients.abs().amax(axes(trace.gradients, 1), keepdim=True)
    unit = unit.masked_fill(unit == 0, 1)
    first, second, third = (torch.zeros_like(trace.gradients) for _ in range(3))
    generators = trace.generators(seed)
    for _ in range(samples):
        g = trace.again(images=noisy(trace.images, sigma, generators)).gradients / unit
        first = first + g
        second = second + g**2
        third = third + g**3
    return first / samples, second / samples, third / samples, unit
