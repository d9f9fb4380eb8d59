"""Integrated gradients at the layer: Sundararajan et al., ICML 2017, arXiv:1703.01365.

Axiomatic Attribution for Deep Networks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter


def integrated_gradients(trace: Trace, steps: int = 50) -> Tensor:
    """w_k(x, y) = integral over t from 0 to 1 of dS/dF_k(x, y) at t F -> (B, K, H, W).

    This is the paper's equation 1 with F in place of the image and baseline 0, to which an ablation
    sets a channel. Completeness: the contributions w F add up to S(F) - S(0). Rule and number of
    points are the defaults of captum's LayerIntegratedGradients, whose baseline is the layer's
    output for another image. The paper finds 20 to 300 points enough. Behind ReLUs the integrand
    has jumps, and the error falls as 1 / steps. Costs `steps` head passes, forward and backward.

    Args:
        trace: The traced batch, with activations F (B, K, H, W).
        steps: The number of points of the Gauss-Legendre rule, at least 1.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If steps < 1.
    """
    F = trace.activations
    total = torch.zeros_like(F)
    for point, weight in gauss_legendre(steps):
        total += weight * _gradient(trace, point * F)
    return total


def gauss_legendre(steps: int) -> list[tuple[float, float]]:
    """Return the points and weights of the Gauss-Legendre rule for an integral from 0 to 1.

    Args:
        steps: The number of points, at least 1.

    Returns:
        A point between 0 and 1 and its weight, for each step. The weights add up to 1.

    Raises:
        BenchError: If steps < 1.
    """
    if steps < 1:
        raise InvalidParameter(
            f"Invalid steps={steps}; give the number of points of the integral, at least 1."
        )
    points, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    return list(zip(((points + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


def _gradient(trace: Trace, activations: Tensor) -> Tensor:
    """Return dS/dF at the given activations: (B, K, H, W)."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = activations.clone().requires_grad_()
        scores = trace.head(leaf).gather(1, trace.targets[:, None].clone())
        return torch.autograd.grad(scores.sum(), leaf)[0]
