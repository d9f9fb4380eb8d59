"""The planted networks by name. Evidence is in patches: 1 is a full patch of 16 cells of the channel's colour.

Each has a channel `brightness` that answers everywhere and that its head doesn't read, and `cyan`, which is all that
the logit of the second class, "other", reads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from axiom_bench.embedded.planted.detectors import detectors
from axiom_bench.embedded.planted.network import CELLS, PlantedNetwork

FULL = 16  # cells of a full patch
POOLED = CELLS * CELLS / FULL  # from a mean over all cells to patches
OTHER = {"cyan": 1.0}


def planted_additive() -> PlantedNetwork:
    """S = a_red + 2 a_green + 3 a_blue: global average pooling and one linear layer, where all channels are alone."""
    names = ("red", "green", "blue", "cyan", "brightness")
    head = linear(names, [{"red": 1, "green": 2, "blue": 3}, OTHER])
    return PlantedNetwork(detectors(names), nn.AdaptiveAvgPool2d(1), head)


def linear(
    names: tuple[str, ...], rows: list[Mapping[str, float]], biases: tuple[float, ...] | None = None
) -> nn.Linear:
    """A linear layer over pooled channels: a row of weights by channel name for each output, in patches."""
    layer = nn.Linear(len(names), len(rows), bias=biases is not None)
    with torch.no_grad():
        layer.weight.copy_(POOLED * torch.tensor([[row.get(name, 0.0) for name in names] for row in rows]))
        if biases is not None:
            layer.bias.copy_(torch.tensor(biases))
    return layer


BUILDERS = {"planted_additive": planted_additive}
