"""Guided variants: Selvaraju et al., Guided Grad-CAM, ICCV 2017, arXiv:1610.02391, and others.

Guided XGrad-CAM: Fu et al., arXiv:2008.02312. Guided backpropagation: Springenberg et al., Striving
for Simplicity, ICLR workshop 2015, arXiv:1412.6806.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.saliency import gradient_at
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
)
from axiom_bench.methods.shared.wrapping import wrapped_heatmap
from axiom_bench.methods.xgrad_cam import xgrad_cam

RECTIFIERS = {torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, functional.relu, functional.relu6}


def guided(trace: Trace, wrapped: Method = xgrad_cam) -> Map:
    """Sum over RGB of |guided gradient|, times the wrapped method's heatmap -> (B, H', W').

    The heatmap has the image's size. The paper shows the product per colour; this is the sum of
    its absolute values over the three. Costs one forward and backward pass, shared by all guided
    methods and `guided_backprop`.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        wrapped: The method whose heatmap is the factor.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the network has no ReLU.
    """
    return Map(guided_gradient(trace).abs().sum(1) * wrapped_heatmap(wrapped, trace))


class GuidedRectifiers(Interceptor):
    """Let every ReLU and ReLU6 pass back only the positive part of the gradient that it receives.

    Other activation functions keep their gradient. `count` is the number of calls of ReLU and ReLU6
    while this was active.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with a hook on its gradient if it is a ReLU's."""
        output = func(*args, **kwargs)
        # nn.ReLU6 calls hardtanh
        if func in RECTIFIERS or (func is functional.hardtanh and kwargs["min_val"] == 0):
            self.count += 1
            if output.requires_grad:
                # The hook gets the incoming gradient, before ReLU's derivative is applied.
                output.register_hook(torch.relu)
        return output


def guided_gradient(trace: Trace) -> Tensor:
    """Return dS/dX, with R_l = 1(F_l > 0) relu(R_l+1) at every ReLU, computed once for all methods.

    Args:
        trace: The traced batch, with images X (B, 3, H', W').

    Returns:
        The gradient, (B, 3, H', W').

    Raises:
        BenchError: If the network has no ReLU.
    """
    return trace.once("guided_gradient", lambda: _guided_gradient(trace))


def _guided_gradient(trace: Trace) -> Tensor:
    with GuidedRectifiers() as rectifiers:
        gradient = gradient_at(trace, trace.images)
    if not rectifiers.count:
        raise BenchError(
            "Guided backpropagation needs a network with ReLUs: leave the guided methods out."
        )
    return gradient
