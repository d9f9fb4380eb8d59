"""Guided backpropagation: Springenberg et al., ICLR workshop 2015, arXiv:1412.6806.

Striving for Simplicity: The All Convolutional Net.
"""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.guided import guided_gradient


def guided_backprop(trace: Trace) -> Map:
    """Sum over RGB of |guided gradient|, at the image's size -> (B, H', W').

    Every ReLU passes back only the positive part of the gradient: R_l = 1(F_l > 0) relu(R_l+1). The
    paper shows the gradient per colour; this is the sum of its absolute values, as in `guided`. The
    layer isn't used. Costs one forward and backward pass, shared with the guided methods.

    Args:
        trace: The traced batch, with images (B, 3, H', W').

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the network has no ReLU.
    """
    return Map(guided_gradient(trace).abs().sum(1))
