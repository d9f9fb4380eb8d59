"""G-CAME: Nguyen et al., Gaussian Class Activation Mapping Explainer for Object Detectors, 2023,
arXiv:2306.03400.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.grad_cam import grad_cam
from axiom_bench.methods.shared.masking import minmax
from axiom_bench.methods.shared.objects import centres, squared_distances


def g_came(trace: Trace, sigma: float | None = None) -> Tensor:
    """w_k(x, y) = mean(g_k) G_k(x, y), G_k a Gaussian around the object's centre, min-max scaled ->
    (B, K, H, W).

    The centre is that of the explained box, or of the mass of the region; the authors' code takes
    the first position where g_k isn't 0. sigma: in positions of the layer. None: of each channel,
    as in their code,
    |log |mean(g_k)| log(stride)| / r, r = floor(sqrt(H W) - 1) / 6, stride = H' / H. It follows the scale of the
    score. Raises BenchError for a network without objects, and for sigma <= 0.
    """
    if sigma is not None and not sigma > 0:
        raise BenchError(
            f"Invalid sigma={sigma}; give the Gaussian's standard deviation in positions, above 0."
        )
    means, (H, W) = grad_cam(trace), trace.activations.shape[2:]
    x, y = (
        (each * side).floor().clamp(0, side - 1)
        for each, side in zip(centres(trace), (W, H), strict=True)
    )
    squares = squared_distances(
        x, y, *(torch.arange(side, device=means.device).to(means) for side in (W, H))
    )
    if sigma is None:
        reach = max(1, math.floor(math.sqrt(H * W) - 1)) / 6
        widths = (means.abs().log() * math.log(trace.images.shape[2] / H)).abs() / reach
    else:
        widths = torch.full_like(means, sigma)
    gaussians = torch.exp(
        -squares[:, None] / (2 * widths**2).clamp(min=torch.finfo(means.dtype).tiny)
    )
    return means * minmax(gaussians.flatten(0, 1)).view_as(trace.activations)
