"""Integrated gradients at the layer: Sundararajan et al., Axiomatic Attribution, ICML 2017,
arXiv:1703.01365.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError


def integrated_gradients(trace: Trace, steps: int = 50) -> Tensor:
    """w_k(x, y) = integral over t from 0 to 1 of dS/dF_k(x, y) at t F -> (B, K, H, W).

    The paper's equation 1 with F in place of the image and baseline 0, to which an ablation sets a
    channel. Completeness: the contributions w F add up to S(F) - S(0). steps: points of the
    Gauss-Legendre rule (rule and number are the defaults of captum's LayerIntegratedGradients,
    whose baseline is the layer's output for another image). The paper finds 20 to 300 enough;
    behind ReLUs the integrand has jumps, and the error falls as 1 / steps. Costs `steps` head
    passes, forward and backward. Raises BenchError for steps < 1.
    """
    if steps < 1:
        raise BenchError(
            f"Invalid steps={steps}; give the number of points of the integral, at least 1."
        )
    F = trace.activations
    points, weights = np.polynomial.legendre.leggauss(steps)  # on [-1, 1]
    total = torch.zeros_like(F)
    for point, weight in zip((points + 1) / 2, weights / 2, strict=True):
        total += float(weight) * _gradient(trace, float(point) * F)
    return total


def _gradient(trace: Trace, activations: Tensor) -> Tensor:
    """dS/dF at the given activations: (B, K, H, W)."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = activations.clone().requires_grad_()
        scores = trace.head(leaf).gather(1, trace.targets[:, None].clone())
        return torch.autograd.grad(scores.sum(), leaf)[0]
