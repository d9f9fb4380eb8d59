"""Winsor-CAM: Wall et al., 2025, arXiv:2507.10846.

Winsor-CAM: Human-Tunable Visual Explanations from Deep Networks via Layer-Wise Winsorization.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError, InvalidParameter
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import minmax
from axiom_bench.methods.shared.nonlinear import (
    Arguments,
    Interceptor,
    Keywords,
    TorchFunction,
    functions_of_all_dimensions,
)

LOWEST = 0.1  # weight of the least important layer


def winsor_cam(trace: Trace, percentile: float = 90.0) -> Map:
    """Sum over convolutions l of v_l times Grad-CAM of l, scaled to [0, 1] -> (B, H', W').

    v_l is the layer's importance, relu of the mean over k of Grad-CAM's weights w_k. It is cut off
    at a percentile of the positive ones and mapped from [least, largest] to [0.1, 1]. An importance
    of 0 stays 0, and all are 1 if they are alike. Maps are resized bilinearly, to the largest
    layer's size and then to the image's. Settings are those of the authors' example. The trace's
    layer isn't used. Costs one forward and backward pass.

    Args:
        trace: The traced batch, with images (B, 3, H', W').
        percentile: The percentile, from 0 to 100. A low one gives all layers the same weight, and
            100 cuts off nothing.

    Returns:
        The map, (B, H', W').

    Raises:
        BenchError: If the percentile is outside [0, 100] or the network has no convolutions.
    """
    if not 0 <= percentile <= 100:
        raise InvalidParameter(
            f"Invalid percentile={percentile} of Winsor-CAM; give a number from 0 to 100."
        )
    with torch.inference_mode(False), torch.enable_grad():
        images = trace.images.clone().requires_grad_()
        with Convolutions() as layers:
            # a copy: the network may start with an in-place operation
            logits = trace.forward(images.clone())
        if len(trace) > 1 and layers.batches - {len(trace)}:  # the model runs its images one by one
            rows = [trace[row : row + 1] for row in range(len(trace))]
            return Map(torch.cat([winsor_cam(row_trace, percentile).raw for row_trace in rows]))
        torch.autograd.grad(logits.gather(1, trace.targets[:, None].clone()).sum(), images)
    if not layers.maps:
        raise BenchError("Winsor-CAM needs a network with convolutions: leave winsor_cam out.")
    sizes = [layer_map.shape[1:] for layer_map in layers.maps]
    largest = [max(sides) for sides in zip(*sizes, strict=True)]
    maps = torch.stack([resized(layer_map, largest) for layer_map in layers.maps], 1)
    weights = _winsorized(torch.stack(layers.importances, 1), percentile / 100)
    # The resize is linear, so it may follow the sum.
    return Map(resized(torch.einsum("bl,bl...->b...", weights, maps), trace.images.shape[2:]))


class Convolutions(Interceptor):
    """Append each convolution's Grad-CAM and its importance in the backward pass.

    Attributes:
        maps: Grad-CAM's maps, scaled to [0, 1], (B, h, w) each, in the order of the backward pass.
        importances: The importances, (B,) each, in the same order.
        batches: The batch sizes of the convolutions that ran.
    """

    functions = frozenset(getattr(functional, name) for name in functions_of_all_dimensions("conv"))

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []
        self.importances: list[Tensor] = []
        self.batches: set[int] = set()

    def call(self, func: TorchFunction, args: Arguments, kwargs: Keywords) -> object:
        """Return the call's output, with a hook on its gradient if it is a convolution's."""
        output = func(*args, **kwargs)
        if func in self.functions and output.requires_grad:
            self.batches.add(len(output))
            F = output.detach().clone()  # an in-place operation may follow
            output.register_hook(lambda gradient: self._append(F, gradient))
        return output

    def _append(self, F: Tensor, gradient: Tensor) -> None:
        weights = gradient.mean(axes(gradient), keepdim=True)
        self.maps.append(minmax((weights * F).sum(1).relu()))
        self.importances.append(weights.flatten(1).mean(1).relu())


def _winsorized(importances: Tensor, share: float) -> Tensor:
    """Return the layers' weights from their importances, (B, layers) each."""
    positive = importances.masked_fill(importances == 0, torch.nan)
    limit = positive.nanquantile(share, dim=1, keepdim=True)
    cut = positive.minimum(limit)
    least = cut.nan_to_num(torch.inf).amin(1, keepdim=True)
    spread = limit - least
    scaled = torch.where(spread > 0, LOWEST + (1 - LOWEST) * (cut - least) / spread, 1)
    return scaled.masked_fill(importances == 0, 0)
