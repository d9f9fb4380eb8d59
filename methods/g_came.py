"""G-CAME: Nguyen et al., 2023, arXiv:2306.03400.

G-CAME: Gaussian-Class Activation Mapping Explainer for Object Detectors.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.shared.masking import minmax
from axiom_bench.methods.shared.objects import centres, squared_distances


def g_came(trace: Trace, sigma: float | None = None) -> Tensor:
    """w_k(x, y) = mean(g_k) G_k(x, y), G_k a Gaussian around the object -> (B, K, H, W).

    G_k is min-max scaled. Its centre is that of the explained box, or the centre of the region's
    mass; the authors' code takes the first position where g_k isn't 0.

    Args:
        trace: The traced batch of a network with boxes or masks, with gradients g (B, K, H, W).
        sigma: The standard deviation in positions of the layer, above 0. None: a value per channel
            as in the authors' code, |log |mean(g_k)| log(stride)| / r, with
            r = floor(sqrt(H W) - 1) / 6 and stride = H' / H. This value changes with the score's
            scale.

    Returns:
        The weights, (B, K, H, W).

    Raises:
        BenchError: If the network has no objects, or if sigma <= 0.
    """
    if sigma is not None and not sigma > 0:
        raise InvalidParameter(
            f"Invalid sigma={sigma}; give the Gaussian's standard deviation in positions, above 0."
        )
    means = grad_cam(trace)
    H, W = trace.activations.shape[2:]
    x, y = centres(trace)
    # The object's centre may lie outside of the image, and a Gaussian's centre is a position.
    column = (x * W).floor().clamp(0, W - 1)
    row = (y * H).floor().clamp(0, H - 1)
    columns = torch.arange(W, device=means.device).to(means)
    rows = torch.arange(H, device=means.device).to(means)
    squares = squared_distances(column, row, columns, rows)
    if sigma is None:
        reach = max(1, math.floor(math.sqrt(H * W) - 1)) / 6
        widths = (means.abs().log() * math.log(trace.images.shape[2] / H)).abs() / reach
    else:
        widths = torch.full_like(means, sigma)
    divisor = (2 * widths**2).clamp(min=torch.finfo(means.dtype).tiny)
    gaussians = torch.exp(-squares[:, None] / divisor)
    return means * minmax(gaussians.flatten(0, 1)).view_as(trace.activations)
