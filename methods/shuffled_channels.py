"""Another method's weights given to the wrong channels, a control."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import BenchError
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import answer_of
from axiom_bench.methods.xgrad_cam import xgrad_cam


def shuffled_channels(trace: Trace, wrapped: Method = xgrad_cam, seed: int = 0) -> Tensor:
    """w_k of the wrapped method in a random order over k, drawn for each image -> (B, K, 1, 1) or
    (B, K, H, W).

    Channel and weight are both the network's own, only their pairing is not. The order is seeded by
    the original image and `seed`: neither batch, order, device nor perturbation changes it. Raises
    BenchError for a method that returns a Map, which weights no channels.
    """
    weights = answer_of(wrapped, trace)
    if isinstance(weights, Map):
        raise BenchError(
            "The wrapped method returns a map without channel weights; wrap one such as xgrad_cam."
        )
    draws = trace.generators(seed)
    orders = torch.stack(
        [torch.randperm(trace.activations.shape[1], generator=draw) for draw in draws]
    )
    orders = over_space(orders.to(weights.device), weights).expand(-1, -1, *weights.shape[2:])
    return weights.expand(*orders.shape).gather(1, orders)
