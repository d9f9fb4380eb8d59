"""Input x gradient: Shrikumar et al., Not Just a Black Box, 2016, arXiv:1605.01713."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.saliency import image_gradient


def input_x_gradient(trace: Trace) -> Map:
    """Sum over colours of X dS/dX, at the image's size -> (B, H', W').

    The map is signed: a heatmap shows where the product is positive. If the network is piecewise
    linear without biases, the map adds up to S. The layer isn't used. Costs one forward and
    backward pass, shared with `saliency`.

    Args:
        trace: The traced batch, with the images X as the network takes them, (B, 3, H', W').

    Returns:
        The map, (B, H', W').
    """
    return Map((trace.images * image_gradient(trace)).sum(1))
