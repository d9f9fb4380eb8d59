"""Opti-CAM: Zhang et al., Optimizing saliency maps for interpretability, CVIU 2024,
arXiv:2301.07002.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.masking import minmax, pass_slices

# Adam's, with torch's defaults.
DECAY, SQUARED_DECAY, EPSILON = 0.9, 0.999, 1e-8


def opti_cam(trace: Trace, iterations: int = 100, learning_rate: float = 0.1) -> Tensor:
    """w = softmax(u), u maximising the class's logit for the image times the map that w gives ->
    (B, K, 1, 1).

    The map sum_k w_k F_k is upsampled, min-max scaled and multiplied with the image; Adam takes
    `iterations` steps from u = 0, for each image on its own and without random numbers. Unlike the
    authors' code it doesn't stop early where the loss rises, nor apply ReLU to the layer's maps.
    Costs a forward and a backward pass of the whole network per iteration. Raises BenchError for
    iterations < 1 and for learning_rate <= 0.
    """
    if iterations < 1:
        raise BenchError(
            f"Invalid iterations={iterations}; give the number of Adam's steps, at least 1."
        )
    if not learning_rate > 0:
        raise BenchError(f"Invalid learning_rate={learning_rate}; give a number above 0.")
    parts = [
        _optimised(trace, rows, iterations, learning_rate)
        for rows in pass_slices(trace, len(trace), with_gradient=True)
    ]
    return torch.cat(parts)


def _optimised(trace: Trace, rows: slice, iterations: int, learning_rate: float) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        images, maps, targets = (
            part[rows].clone() for part in (trace.images, trace.activations, trace.targets)
        )
        index = torch.arange(len(trace))[rows]
        u = over_space(maps.new_zeros(maps.shape[:2]), maps)
        first, second = torch.zeros_like(u), torch.zeros_like(u)
        for step in range(1, iterations + 1):
            variable = u.requires_grad_()
            logits = trace.forward(images * _masks(variable.softmax(1), maps, images), index)
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), variable)
            # Not torch.optim's Adam, whose first step imports a compiler, which takes seconds.
            first = DECAY * first + (1 - DECAY) * gradient
            second = SQUARED_DECAY * second + (1 - SQUARED_DECAY) * gradient**2
            spread = (second / (1 - SQUARED_DECAY**step)).sqrt() + EPSILON
            u = u.detach() + learning_rate * first / (1 - DECAY**step) / spread
        return u.softmax(1)


def _masks(weights: Tensor, maps: Tensor, images: Tensor) -> Tensor:
    """(B, K, 1, 1), (B, K, H, W) -> (B, 1, H', W')."""
    return minmax(resized((weights * maps).sum(1), images.shape[2:]))[:, None]
