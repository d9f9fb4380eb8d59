"""Saliency: Simonyan et al., Deep Inside Convolutional Networks, ICLR workshop 2014, arXiv:1312.6034."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.image_gradient import image_gradient


def saliency(trace: Trace) -> Map:
    """max over colours of |dS/dX|, at the image's size -> (B, H', W').

    Section 3.1 of the paper. The layer isn't used. Costs one forward and backward pass, shared with `input_x_gradient`.
    """
    return Map(image_gradient(trace).abs().amax(1))
