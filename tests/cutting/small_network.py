"""A small network with one convolution, and its drops computed by a hook on the network itself."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import axiom_bench as ab
from tests.cutting.conftest import Network

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def classify(net: Any, x: Tensor) -> Tensor:
    return net.fc(net.c(x).relu().mean((2, 3)))


def small_network(forward: Callable[[Any, Tensor], Any] = classify, **modules: Any) -> Network:
    torch.manual_seed(0)
    parts = {"c": nn.Conv2d(3, 6, 3, padding=1), "fc": nn.Linear(6, 4), **modules}
    return Network(forward, **parts).double()


def drops_by_hand(network: nn.Module, layer: str = "c") -> Tensor:
    """Compute the drops with one forward pass per image and channel."""
    target_layer = network.eval().get_submodule(layer)

    def score(image: int, channel: int | None = None) -> Tensor:
        def ablate(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            if channel is None:
                return output
            return output.index_fill(1, torch.tensor(channel), 0)

        handle = target_layer.register_forward_hook(ablate)
        with torch.no_grad():
            logits = network(IMAGES[image : image + 1])[0]
        handle.remove()
        return logits[image]

    drops = torch.zeros(2, 6, dtype=torch.float64)
    for image, channel in np.ndindex(2, 6):
        drops[image, channel] = score(image) - score(image, channel)
    return drops


def assert_right_drops(network: nn.Module, layer: str = "c") -> None:
    drops = ab.trace(network, layer, IMAGES, torch.arange(2)).ablation_drops
    expected = drops_by_hand(network, layer)
    torch.testing.assert_close(drops, expected, rtol=0, atol=1e-13)
    assert expected.any()
