"""Winsor-CAM: Wall et al., Human-Tunable Visual Explanations via Layer-Wise Winsorization, 2025,
arXiv:2507.10846.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from axiom_bench.cutting.numerics import axes, resized
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map
from axiom_bench.methods.shared.masking import minmax
from axiom_bench.methods.shared.nonlinear import Interceptor, of_layers

LOWEST = 0.1  # weight of the least important layer


def winsor_cam(trace: Trace, percentile: float = 90.0) -> Map:
    """Sum over convolutions of v_l times layer l's Grad-CAM, scaled to [0, 1], at the image's size
    -> (B, H', W').

    v_l: the layer's importance, relu of the mean over k of Grad-CAM's weights w_k. It is cut off at
    this percentile of the positive ones and mapped from [least, largest] to [0.1, 1]; 0 stays, and
    all are 1 where they are alike. A low one gives all layers the same weight, 100 cuts off
    nothing. Maps are resized bilinearly, to the largest layer's size and then to the image's.
    Settings are those of the authors' example. The trace's layer isn't used. Costs one forward and
    backward pass. Raises BenchError for a percentile outside [0, 100] and a network without
    convolutions.
    """
    if not 0 <= percentile <= 100:
        raise BenchError(
            f"Invalid percentile={percentile} of Winsor-CAM; give a number from 0 to 100."
        )
    with torch.inference_mode(False), torch.enable_grad():
        images = trace.images.clone().requires_grad_()
        with Convolutions() as layers:
            logits = trace.forward(
                images.clone()
            )  # a copy: the network may start with an in-place operation
        if len(trace) > 1 and layers.batches - {len(trace)}:  # the model runs its images one by one
            return Map(
                torch.cat([winsor_cam(trace[i : i + 1], percentile).raw for i in range(len(trace))])
            )
        torch.autograd.grad(logits.gather(1, trace.targets[:, None].clone()).sum(), images)
    if not layers.maps:
        raise BenchError("Winsor-CAM needs a network with convolutions: leave winsor_cam out.")
    largest = [max(sides) for sides in zip(*(each.shape[1:] for each in layers.maps), strict=True)]
    maps = torch.stack([resized(each, largest) for each in layers.maps], 1)  # (B, layers, h, w)
    weights = _winsorized(torch.stack(layers.importances, 1), percentile / 100)
    # The resize is linear, so it may follow the sum.
    return Map(resized(torch.einsum("bl,bl...->b...", weights, maps), trace.images.shape[2:]))


class Convolutions(Interceptor):
    """While active, the backward pass appends each convolution's Grad-CAM, scaled to [0, 1], and
    its importance.

    maps: (B, h, w) each, importances: (B,) each, in the order of the backward pass.
    """

    functions = frozenset(getattr(functional, name) for name in of_layers("conv"))

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []
        self.importances: list[Tensor] = []
        self.batches: set[int] = set()

    def call(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The call's output, with a hook on its gradient where it is a convolution's."""
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
    """The layers' weights from their importances, (B, layers) each."""
    positive = importances.masked_fill(importances == 0, torch.nan)
    limit = positive.nanquantile(share, dim=1, keepdim=True)
    cut = positive.minimum(limit)
    least = cut.nan_to_num(torch.inf).amin(1, keepdim=True)
    spread = limit - least
    scaled = torch.where(spread > 0, LOWEST + (1 - LOWEST) * (cut - least) / spread, 1)
    return scaled.masked_fill(importances == 0, 0)
