"""Saliency: Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014,
arXiv:1312.6034.
"""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map


def saliency(trace: Trace) -> Map:
    """max over colours of |dS/dX|, at the image's size -> (B, H', W').

    Section 3.1 of the paper. The layer isn't used. Costs one forward and backward pass, shared with
    `input_x_gradient`.
    """
    return Map(image_gradient(trace).abs().amax(1))


def image_gradient(trace: Trace) -> Tensor:
    """dS/dX at the trace's images, computed once for all methods: (B, C, H', W')."""
    return trace.once("image_gradient", lambda: gradient_at(trace, trace.images))


def gradient_at(trace: Trace, images: Tensor) -> Tensor:
    """dS/dX of the trace's classes at other images: (B, C, H', W')."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = images.clone().requires_grad_()
        logits = trace.forward(
            leaf.clone()
        )  # a copy: the network may start with an in-place operation
        scores = logits.gather(1, trace.targets[:, None].clone())
        if (
            not scores.requires_grad
        ):  # torch.fx leaves out what takes it away, and the trace has one
            raise BenchError(
                "The network's own forward has no gradient: compute it without no_grad or detach."
            )
        return torch.autograd.grad(scores.sum(), leaf)[0]
