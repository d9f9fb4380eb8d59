"""Guided variants: Selvaraju et al., Guided Grad-CAM, ICCV 2017, arXiv:1610.02391; Fu et al., arXiv:2008.02312."""

from __future__ import annotations

from axiom_bench.cutting.trace import Trace
from axiom_bench.explanation.explanation import Method
from axiom_bench.explanation.heatmap import Map
from axiom_bench.methods.shared.guided_backpropagation import guided_gradient
from axiom_bench.methods.shared.wrapping import heatmap_of
from axiom_bench.methods.xgrad_cam import xgrad_cam


def guided(trace: Trace, wrapped: Method = xgrad_cam) -> Map:
    """Sum over RGB of |guided gradient|, times the wrapped method's heatmap at the image's size -> (B, H', W').

    The paper shows the product per colour; this is the sum of its absolute values over the three. Costs one forward and
    backward pass, shared by all guided methods. Raises BenchError for a network without ReLU.
    """
    gradient = trace.once("guided_gradient", lambda: guided_gradient(trace))
    return Map(gradient.abs().sum(1) * heatmap_of(wrapped, trace))
