"""The planted networks by name. Evidence is in patches: a_k = 1 is a patch of 16 cells of the channel's colour.

All have a channel `brightness`, which answers everywhere and which no head reads, and a channel `cyan`, which is all
that the logit of the second class, "other", reads. S is the logit of the first class, "evidence".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from axiom_bench.embedded.planted.network import CELL, CELLS, PlantedNetwork

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


FULL = 16  # cells of a patch of evidence 1
POOLED = CELLS * CELLS / FULL  # from a mean over all cells to patches
UNREAD = ("cyan", "brightness")  # by the logit of the first class
OTHER = {"cyan": 1.0}
WEIGHTS = {"red": 1.0, "green": 2.0, "blue": 3.0}


def planted_additive() -> PlantedNetwork:
    """S = a_red + 2 a_green + 3 a_blue, by global average pooling and one linear layer."""
    return _pooled(("red", "green", "blue"), lambda names: linear(names, [WEIGHTS, OTHER]))


def planted_bias() -> PlantedNetwork:
    """S = a_red + 2 a_green + 3 a_blue + 4: the bias is no channel's."""
    return _pooled(("red", "green", "blue"), lambda names: linear(names, [WEIGHTS, OTHER], (4.0, 0.0)))


def planted_suppressing() -> PlantedNetwork:
    """S = 2 a_red - a_green: green speaks against the class."""
    return _pooled(("red", "green"), lambda names: linear(names, [{"red": 2.0, "green": -1.0}, OTHER]))


def planted_saturating() -> PlantedNetwork:
    """S = min(1, a_red + a_green + a_blue): any two of the three colours are enough in these images."""
    rows = [{"red": -1.0, "green": -1.0, "blue": -1.0}, OTHER]
    return _pooled(("red", "green", "blue"), lambda names: hidden(names, rows, (1.0, 0.0), [[-1, 0], [0, 1]], (1, 0)))


def planted_and() -> PlantedNetwork:
    """S = max(0, a_red + a_green - 1): neither colour is enough."""
    rows = [{"red": 1.0, "green": 1.0}, OTHER]
    return _pooled(("red", "green"), lambda names: hidden(names, rows, (-1.0, 0.0), [[1, 0], [0, 1]], (0, 0)))


def planted_or() -> PlantedNetwork:
    """S = max(a_red, a_green): the colour with more evidence decides."""
    rows = [{"red": 1.0, "green": -1.0}, {"green": 1.0}, OTHER]
    last = [[1, 1, 0], [0, 0, 1]]
    return _pooled(("red", "green"), lambda names: hidden(names, rows, (0.0, 0.0, 0.0), last, (0, 0)))


def planted_duplicate() -> PlantedNetwork:
    """S = a_red + a_red' - a_red a_red' + a_green: red is detected twice, and once is nearly enough; one channel is
    dead."""
    names = ("red", "red", "dead", "green", *UNREAD)
    read = linear(names, [{"green": 1.0}, OTHER])
    return PlantedNetwork(detectors(names), nn.AdaptiveAvgPool2d(1), NoisyOr(read, POOLED))


def planted_cancelling() -> PlantedNetwork:
    """S = a_red + a, a = sum_left F - sum_right F of the channel F = blue - yellow, which sums to 0 over the image."""
    colours = ("red", "blue", "yellow", *UNREAD)
    mix = nn.Conv2d(5, 4, 1, bias=False)
    with torch.no_grad():
        mix.weight.copy_(
            torch.tensor([[1, 0, 0, 0, 0], [0, 1, -1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1.0]])[..., None, None]
        )
    left_minus_right = torch.ones(CELLS, CELLS)
    left_minus_right[:, CELLS // 2 :] = -1
    everywhere = torch.ones(CELLS, CELLS)
    readout = reading([everywhere, left_minus_right, everywhere, everywhere])
    head = linear(("red", "blue - yellow", *UNREAD), [{"red": 1.0, "blue - yellow": 1.0}, OTHER])
    return PlantedNetwork(nn.Sequential(*detectors(colours), mix), readout, head)


def planted_region() -> PlantedNetwork:
    """S = a_red + a_green + a_yellow with a_k of the left half alone: the right half isn't connected to S."""
    names = ("red", "green", "yellow", *UNREAD)
    left = torch.ones(CELLS, CELLS)
    left[:, CELLS // 2 :] = 0
    rows = [{"red": 1.0, "green": 1.0, "yellow": 1.0}, OTHER]
    readout = reading([left, left, left, torch.ones(CELLS, CELLS), torch.ones(CELLS, CELLS)])
    return PlantedNetwork(detectors(names), readout, linear(names, rows))


def planted_vanishing() -> PlantedNetwork:
    """planted_additive behind saturated detectors: S has gradient 0 in every pixel, and the same gradient in F."""
    names = ("red", "green", "blue", *UNREAD)
    return PlantedNetwork(saturated_detectors(names), nn.AdaptiveAvgPool2d(1), linear(names, [WEIGHTS, OTHER]))


class NoisyOr(nn.Module):
    """The linear logits, the first with a + b - a b added, where a and b are the first two channels, in patches."""

    def __init__(self, read: nn.Linear, scale: float) -> None:
        super().__init__()
        self.read, self.scale = read, scale

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, K) -> (B, 2)."""
        logits = self.read(pooled)
        a, b = self.scale * pooled[:, 0:1], self.scale * pooled[:, 1:2]
        return torch.cat([logits[:, 0:1] + a + b - a * b, logits[:, 1:2]], 1)


def reading(maps: Sequence[Tensor]) -> nn.Conv2d:
    """The mean of each channel's map times its own one here, (16, 16): (B, K, 16, 16) -> (B, K, 1, 1)."""
    readout = nn.Conv2d(len(maps), len(maps), CELLS, groups=len(maps), bias=False)
    with torch.no_grad():
        readout.weight.copy_(torch.stack(list(maps))[:, None] / CELLS**2)
    return readout


def linear(
    names: Sequence[str], rows: Sequence[Mapping[str, float]], biases: Sequence[float] | None = None
) -> nn.Linear:
    """A linear layer over pooled channels: for each output a row of weights by channel name, in patches."""
    layer = nn.Linear(len(names), len(rows), bias=biases is not None)
    with torch.no_grad():
        layer.weight.copy_(POOLED * torch.tensor([[row.get(name, 0.0) for name in names] for row in rows]))
        if biases is not None:
            layer.bias.copy_(torch.tensor(biases))
    return layer


def hidden(
    names: Sequence[str],
    rows: Sequence[Mapping[str, float]],
    biases: Sequence[float],
    last: Sequence[Sequence[float]],
    last_biases: Sequence[float],
) -> nn.Sequential:
    """Such a linear layer, a ReLU, and a second linear layer with these weights, a row for each logit."""
    logits = nn.Linear(len(rows), len(last))
    with torch.no_grad():
        logits.weight.copy_(torch.tensor(last))
        logits.bias.copy_(torch.tensor(last_biases))
    return nn.Sequential(linear(names, rows, biases), nn.ReLU(), logits)


def _pooled(colours: tuple[str, ...], head: Callable[[tuple[str, ...]], nn.Module]) -> PlantedNetwork:
    """A network whose head reads global averages."""
    names = (*colours, *UNREAD)
    return PlantedNetwork(detectors(names), nn.AdaptiveAvgPool2d(1), head(names))


BUILDERS = {
    build.__name__: build
    for build in (
        planted_additive, planted_bias, planted_suppressing, planted_saturating, planted_and, planted_or,
        planted_duplicate, planted_cancelling, planted_region, planted_vanishing,
    )
}  # fmt: skip
