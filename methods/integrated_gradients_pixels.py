"""Integrated gradients at the image: Sundararajan et al., ICML 2017, arXiv:1703.01365.

Axiomatic Attribution for Deep Networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.integrated_gradients import gauss_legendre
from axiom_bench.methods.saliency import gradient_at


def integrated_gradients_pixels(
    trace: Trace, steps: int = 50, baseline: float | list[float] = 0.0
) -> Map:
    """Sum over colours of (X - X0) times the mean of dS/dX from X0 to X -> (B, H', W').

    This is the paper's equation 1, with the image X and a baseline X0 of one colour. The integral
    has the rule and number of points of captum's IntegratedGradients. Completeness: the map adds up
    to S(X) - S(X0). Behind ReLUs the integrand has jumps, and the error falls as 1 / steps. The map
    is signed, and the layer isn't used. Costs `steps` forward and backward passes.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').
        steps: The number of points of the Gauss-Legendre rule, at least 1.
        baseline: X0 as the network takes it: one number, or one for each colour. 0 is the mean
            colour of normalised images.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If steps < 1, or if the baseline has another number of colours than the images.
    """
    images = trace.images
    difference = images - _baseline_colour(baseline, images)
    total = torch.zeros_like(images)
    for point, weight in gauss_legendre(steps):
        total += weight * gradient_at(trace, images - (1 - point) * difference)
    return Map((difference * total).sum(1))


def _baseline_colour(baseline: float | list[float], images: Tensor) -> Tensor:
    """Return the baseline as a tensor (C or 1, 1, ...) that broadcasts to the images."""
    colours = baseline if isinstance(baseline, list) else [baseline]
    channels = images.shape[1]
    if len(colours) not in (1, channels):
        raise InvalidParameter(
            f"Invalid baseline={baseline}; give one number, or {channels}: one for each channel "
            "of the images."
        )
    return torch.tensor(colours).to(images).view(-1, *(1 for _ in images.shape[2:]))
