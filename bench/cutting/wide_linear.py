"""A linear layer of many inputs, whose gradient for its inputs is taken in blocks of them.

BLAS libraries take a product of few rows with a wide matrix up to twice as slowly in one piece as in blocks
(FC 12288 -> 512, batch 8, two cores: 2.1 ms and 1.4 ms), and a head that flattens its maps begins with such a layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

BLOCK = 128
# Narrower layers gain nothing.
WIDE = 1024


def apply_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """layer(x), differentiable in x alone. x: (B, inputs) -> (B, outputs)."""
    pays = x.ndim == 2 and x.device.type == "cpu" and x.shape[1] >= WIDE and x.shape[1] % BLOCK == 0
    if not pays or not x.requires_grad or torch.is_autocast_enabled("cpu"):
        return layer(x)
    return _WideLinear.apply(x, layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        blocks = weight.unflatten(1, (-1, BLOCK)).transpose(0, 1)
        parts = torch.bmm(gradient.expand(len(blocks), *gradient.shape), blocks)
        return parts.transpose(0, 1).flatten(1), None, None
