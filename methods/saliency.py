"""Saliency: Simonyan et al., ICLR workshop 2014, arXiv:1312.6034.

Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map


def saliency(trace: Trace) -> Map:
    """Maximum over colours of |dS/dX|, at the image's size -> (B, H', W').

    Section 3.1 of the paper. The layer isn't used. Costs one forward and backward pass, shared with
    `input_x_gradient`.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').

    Returns:
        The map, (B, H', W').
    """
    return Map(image_gradient(trace).abs().amax(1))


def image_gradient(trace: Trace) -> Tensor:
    """Return dS/dX at the trace's images X, computed once for all methods.

    Args:
        trace: The traced batch, with images (B, C, H', W').

    Returns:
        The gradient, (B, C, H', W').
    """
    return trace.once("image_gradient", lambda: gradient_at(trace, trace.images))


def gradient_at(trace: Trace, images: Tensor) -> Tensor:
    """Return dS/dX of the trace's classes at other images.

    Args:
        trace: The traced batch.
        images: The images X, (B, C, H', W').

    Returns:
        The gradient, (B, C, H', W').

    Raises:
        BenchError: If the network's own forward pass has no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.clone().requires_grad_()
        # a copy: the network may start with an in-place operation
        logits = trace.forward(leaf.clone())
        scores = logits.gather(1, trace.targets[:, None].clone())
        if not scores.requires_grad:
            # The trace has a gradient nevertheless: torch.fx leaves out no_grad and detach.
            raise BenchError(
                "The network's forward stops the gradient: remove no_grad or detach from it."
            )
        return torch.autograd.grad(scores.sum(), leaf)[0]
