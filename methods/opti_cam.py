"""Opti-CAM: Zhang et al., Optimizing saliency maps for interpretability, CVIU 2024, arXiv:2301.07002."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.passes import HELD
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.methods.shared.masking import chunks, minmax

# A pass that is differentiated keeps the values of all layers; one that isn't holds a layer's at a time.
LAYERS_HELD = 4
# Adam's, as torch has them.
DECAY, SQUARED_DECAY, EPSILON = 0.9, 0.999, 1e-8


def opti_cam(trace: Trace, iterations: int = 100, learning_rate: float = 0.1) -> Tensor:
    """w = softmax(u), u maximising the class's logit for the image times the map that w gives -> (B, K, 1, 1).

    The map sum_k w_k F_k is upsampled, min-max scaled and multiplied with the image; Adam takes `iterations` steps
    from u = 0 for each image, which involves no chance and no other image. The objective is the authors' `plain` one
    (the logit itself). Their code also stops early where the loss has risen since it last looked, and applies ReLU to
    the layer's maps: neither is done here.
    Costs a forward and a backward pass of the whole network for each iteration. Raises BenchError for iterations < 1
    or a learning rate that isn't above 0.
    """
    if iterations < 1:
        raise BenchError(f"An optimisation needs at least one iteration, not iterations={iterations}.")
    if not learning_rate > 0:
        raise BenchError(f"The learning rate is a number above 0, not learning_rate={learning_rate}.")
    parts = [
        _optimised(trace, rows, iterations, learning_rate)
        for rows in chunks(trace, len(trace), trace.images[0], HELD * LAYERS_HELD)
    ]
    return torch.cat(parts)


def _optimised(trace: Trace, rows: slice, iterations: int, learning_rate: float) -> Tensor:
    with torch.inference_mode(False), torch.enable_grad():
        images, maps, targets = (part[rows].clone() for part in (trace.images, trace.activations, trace.targets))
        u = torch.zeros_like(maps[:, :, :1, :1])
        first, second = torch.zeros_like(u), torch.zeros_like(u)
        for step in range(1, iterations + 1):
            variable = u.requires_grad_()
            logits = trace.forward(images * _masks(variable.softmax(1), maps, images))
            (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), variable)
            # Adam in place of torch.optim's, whose first step imports a compiler that takes seconds.
            first = DECAY * first + (1 - DECAY) * gradient
            second = SQUARED_DECAY * second + (1 - SQUARED_DECAY) * gradient**2
            spread = (second / (1 - SQUARED_DECAY**step)).sqrt() + EPSILON
            u = u.detach() + learning_rate * first / (1 - DECAY**step) / spread
        return u.softmax(1)


def _masks(weights: Tensor, maps: Tensor, images: Tensor) -> Tensor:
    """(B, K, 1, 1), (B, K, H, W) -> (B, 1, H', W')."""
    combined = (weights * maps).sum(1, keepdim=True)
    size = (images.shape[-2], images.shape[-1])
    return minmax(functional.interpolate(combined, size=size, mode="bilinear", align_corners=False)[:, 0])[:, None]
