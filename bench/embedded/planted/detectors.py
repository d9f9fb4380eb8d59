"""Detectors of pure colours: exactly 1 in a cell of their colour, exactly 0 on grey and in every other colour."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from axiom_bench.embedded.planted.network import CELL

MEAN, STD = 0.5, 0.25  # of the input, each colour in [0, 1]
THIRD = 1 / 3
# Weights of red, green and blue in [0, 1], and a bias, before a ReLU. Grey v has v times the sum of the weights, and
# every other pure colour at most -1, so that rounding can't reach the ReLU's kink.
DETECTORS = {
    "red": ((2.0, -2.0, -2.0), -1.0),
    "green": ((-2.0, 2.0, -2.0), -1.0),
    "blue": ((-2.0, -2.0, 2.0), -1.0),
    "yellow": ((2.0, 2.0, -6.0), -3.0),
    "cyan": ((-6.0, 2.0, 2.0), -3.0),
    "brightness": ((THIRD, THIRD, THIRD), 0.0),
    "dead": ((0.0, 0.0, 0.0), -1.0),
}


STEEP = 8.0  # of saturated detectors: how far a patch of their colour is beyond the end of their slope


def detectors(names: Sequence[str]) -> nn.Sequential:
    """Images -> a map (16, 16) for each name: a 1 x 1 convolution, a ReLU, and the mean of each cell."""
    return nn.Sequential(_convolution(names, [1.0] * len(names)), nn.ReLU(), nn.AvgPool2d(CELL))


def saturated_detectors(names: Sequence[str]) -> nn.Sequential:
    """The same maps by min(1, max(0, 8 x)) in the ReLU's place, which is flat at every pixel of a patch and of the
    ground; brightness, which isn't 0 or 1, keeps its slope."""
    slopes = [1.0 if name == "brightness" else STEEP for name in names]
    return nn.Sequential(_convolution(names, slopes), nn.Hardtanh(0.0, 1.0), nn.AvgPool2d(CELL))


def _convolution(names: Sequence[str], slopes: Sequence[float]) -> nn.Conv2d:
    """The detectors' weights and biases times their slopes, for images of the networks' MEAN and STD."""
    convolution = nn.Conv2d(3, len(names), 1)
    weights = torch.tensor([DETECTORS[name][0] for name in names]) * torch.tensor(slopes)[:, None]
    biases = torch.tensor([DETECTORS[name][1] for name in names]) * torch.tensor(slopes)
    with torch.no_grad():
        convolution.weight.copy_((STD * weights)[..., None, None])
        convolution.bias.copy_(biases + MEAN * weights.sum(1))  # type: ignore[union-attr]
    return convolution
