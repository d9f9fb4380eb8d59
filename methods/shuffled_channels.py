"""Another method's weights given to the wrong channels, a control."""

from __future__ import annotations

import torch
from torch import Tensor

from axiom_bench.cutting.numerics import over_space
from axiom_bench.cutting.trace import Trace
from axiom_bench.errors import InvalidParameter
from axiom_bench.explanation.explanation import Map, Method
from axiom_bench.methods.shared.wrapping import run_wrapped
from axiom_bench.methods.xgrad_cam import xgrad_cam


def shuffled_channels(trace: Trace, wrapped: Method = xgrad_cam, seed: int = 0) -> Tensor:
    """w_k of the wrapped method in a random order over k -> (B, K, 1, 1) or (B, K, H, W).

    Channels and weights are the network's own, only their pairing isn't. The order is drawn for
    each image, seeded by the original image and `seed`: neither batch, order, device nor
    perturbation changes it.

    Args:
        trace: The traced batch, with activations (B, K, H, W).
        wrapped: The method whose weights are shuffled.
        seed: The seed of the orders.

    Returns:
        The weights, (B, K, 1, 1) or (B, K, H, W), like the wrapped method.

    Raises:
        BenchError: If the wrapped method returns a Map, which weights no channels.
    """
    weights = run_wrapped(wrapped, trace)
    if isinstance(weights, Map):
        raise InvalidParameter(
            "The wrapped method returns a map without channel weights; wrap one such as xgrad_cam."
        )
    num_channels = trace.activations.shape[1]
    # One order for all positions, so that a channel gets all weights of another channel.
    orders = torch.stack(
        [torch.randperm(num_channels, generator=generator) for generator in trace.generators(seed)]
    )
    index = over_space(orders.to(weights.device), weights).expand(-1, -1, *weights.shape[2:])
    return weights.expand(*index.shape).gather(1, index)
