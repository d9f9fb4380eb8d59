"""Opti-CAM: Zhang et al., CVIU 2024, arXiv:2301.07002.

Opti-CAM: Optimizing saliency maps for interpretability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.methods.shared.masking import minmax, pass_slices

# The settings of Adam, with torch's defaults.
DECAY = 0.9
SQUARED_DECAY = 0.999
EPSILON = 1e-8


def opti_cam(trace: Trace, iterations: int = 100, learning_rate: float = 0.1) -> Tensor:
    """w_k = softmax_k(u), u maximising the class's logit for the masked image -> (B, K, 1, 1).

    The mask is the map sum_k w_k F_k, upsampled and min-max scaled. Adam takes `iterations` steps
    from u = 0, for each image independently and without random numbers. Unlike the authors' code,
    it doesn't stop early if the loss rises, and applies no ReLU to the layer's maps. Costs a
    forward and a backward pass of the whole network per iteration.

    Args:
        trace: The traced batch, with images (B, 3, H', W') and activations F (B, K, H, W).
        iterations: The number of Adam's steps, at least 1.
        learning_rate: Adam's learning rate, above 0.

    Returns:
        The weights, (B, K, 1, 1).

    Raises:
        BenchError: If iterations < 1 or learning_rate <= 0.
    """
    if iterations < 1:
        raise InvalidParameter(
            f"Invalid iterations={iterations}; give the number of Adam's steps, at least 1."
        )
    if not learning_rate > 0:
        raise InvalidParameter(f"Invalid learning_rate={learning_rate}; give a number above 0.")
    # Adam changes each value by itself, so rows can be optimised in parts.
    parts = [
        _optimised(trace, rows, iterations, learning_rate)
        for rows in pass_slices(trace, len(trace), with_gradient=True)
    ]
    return torch.cat(parts)


def _optimised(trace: Trace, rows: slice, iterations: int, learning_rate: float) -> Tensor:
    """Return the weights for some rows of the batch, (n, K, 1, 1)."""
    with torch.inference_mode(False), torch.enable_grad():
        images = trace.images[rows].clone()
        maps = trace.activations[rows].clone()
        targets = trace.targets[rows].clone()
        index = torch.arange(len(trace))[rows]
        u = over_space(maps.new_zeros(maps.shape[:2]), maps)
        first_moment = torch.zeros_like(u)
        second_moment = torch.zeros_like(u)
        # Not torch.optim's Adam, whose first step imports a compiler, which takes seconds.
        for step in range(1, iterations + 1):
            variable = u.requires_grad_()
            logits = trace.forward(images * _masks(variable.softmax(1), maps, images), index)
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), variable)
            first_moment = DECAY * first_moment + (1 - DECAY) * gradient
            second_moment = SQUARED_DECAY * second_moment + (1 - SQUARED_DECAY) * gradient**2
            spread = (second_moment / (1 - SQUARED_DECAY**step)).sqrt() + EPSILON
            u = u.detach() + learning_rate * first_moment / (1 - DECAY**step) / spread
        return u.softmax(1)


def _masks(weights: Tensor, maps: Tensor, images: Tensor) -> Tensor:
    """Return the masks (B, 1, H', W') that weights (B, K, 1, 1) give with maps (B, K, H, W)."""
    return minmax(resized((weights * maps).sum(1), images.shape[2:]))[:, None]
